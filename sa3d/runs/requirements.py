"""Whether runs can be made from their data sets, asked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sa3d import registry
from sa3d.runs.config import RunConfig
from sa3d.utils import paths

RESULT_NEUTRAL: Final = True


def check_data(runs: Iterable[RunConfig]) -> None:
    """That every task finds in its data set what it needs: classes, families, parts, episodes.

    Args:
        runs: whose processed data sets are there.

    Raises:
        DataError: of the first run that could not be made, with its name.
    """
    from sa3d.data.store import CloudSet, open_clouds
    from sa3d.errors import DataError

    opened: dict[str, CloudSet] = {}
    asked = set()  # variants of an experiment ask the same of a data set
    for run in runs:
        spec, name = run.spec, run.data.name
        question = (run.experiment, spec.task, spec.data, spec.label, spec.seed, spec.fold)
        if run.task.requires is None or question in asked:
            continue
        asked.add(question)
        if name not in opened:
            opened[name] = open_clouds(paths.processed(name))
        try:
            registry.load_at(run.task.requires)(run, opened[name])
        except DataError as error:
            raise DataError(f"{run.spec.name} cannot be run: {error}") from error
