"""What a finished run leaves: ``result.json`` and, per test unit, its scores."""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sa3d.config.obtain import how_to_replace
from sa3d.data.store import TEST, CloudSet
from sa3d.errors import DataError, UnreadDataError
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext, device_name
from sa3d.utils.files import unread, write_whole
from sa3d.utils.json_file import write_json
from sa3d.utils.paths import RESULT

RESULT_NEUTRAL: Final = True
OUTCOMES: Final = "outcomes.npz"


@dataclass(frozen=True)
class Result:
    """What ``result.json`` holds. That file is written last: it alone marks a run as done.

    Attributes:
        experiment: its name.
        spec: the run's identity, as :meth:`sa3d.runs.spec.RunSpec.as_json` writes it.
        fingerprint: of the run.
        metrics: the numbers, by name.
        seconds: computing time, that before a resume included.
        data: facts of the data set.
        protocol: how the numbers came about.
        artifacts: what else it left: name -> path below the run folder.
        details: what the task's own figures draw.
        device, versions: what it ran on.
    """

    experiment: str
    spec: Mapping[str, Any]
    fingerprint: str
    metrics: Mapping[str, float]
    seconds: float
    data: Mapping[str, Any]
    protocol: Mapping[str, Any]
    artifacts: Mapping[str, str]
    details: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def result_of(config: RunConfig, context: RunContext, clouds: CloudSet, **facts: Any) -> Result:
    """A :class:`Result` with what all tasks state alike; ``facts`` are its other fields."""
    return Result(
        experiment=config.experiment,
        spec=config.spec.as_json(),
        fingerprint=context.fingerprint,
        device=device_name(context.device),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "threads": str(torch.get_num_threads()),
        },
        **facts | {"data": data_facts(config, clouds, facts.get("data", {}))},
    )


def finish(context: RunContext, result: Result) -> Result:
    """Hand artifacts to the tracker and write ``result.json``, last and whole."""
    for path in result.artifacts.values():
        context.tracker.artifact(context.folder / path)
    context.tracker.flush()
    write_json(context.folder / RESULT, asdict(result))
    context.tracker.artifact(context.folder / RESULT)
    return result


def data_facts(config: RunConfig, clouds: CloudSet, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Identity and counts of the data, with what its summary file adds (floor, licence).

    ``test_families`` is the number of families among all test clouds. It is left out where the
    task tested another number of clouds and does not state ``test_families`` itself.

    Args:
        stated: what the task states of the clouds that it used; it comes before all else.
    """
    facts: dict[str, Any] = {
        "name": config.data.name,
        "points": config.data.points,
        "num_classes": clouds.num_classes,
        "digest": clouds.digest,
        "floor": None,
    }
    test = clouds.indices(TEST)
    if stated.get("test", len(test)) == len(test):
        facts["test_families"] = len(np.unique(clouds.family[test]))
    stored = read_summary(clouds.path)
    # a summary left from another file of that name says nothing about this one
    if stored.get("digest") == clouds.digest:
        facts["floor"] = stored.get("descriptor_5nn_accuracy")
        facts |= {k: stored[k] for k in ("licence", "split", "note") if k in stored}
    return facts | dict(stated)


def read_summary(clouds: Path) -> dict[str, Any]:
    """What the summary beside a processed file says; empty where there is none.

    Raises:
        DataError: it was cut short. UnreadDataError: the system does not let it be read.
    """
    path = clouds.with_suffix(".json")
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if (why := unread(error)) is not None:
            raise UnreadDataError(f"{path} {why}") from None
        stored = None
    if not isinstance(stored, dict):
        raise DataError(f"cannot read {path}: it is cut short; {how_to_replace(clouds.stem)}")
    return stored


def save_outcomes(
    path: Path,
    score: NDArray[Any],
    index: NDArray[np.int64],
    family: NDArray[np.int64],
    **more: NDArray[Any],
) -> None:
    """Per test unit (S,): its score in [0, 1], row in the data set and family.

    The mean score is the task's metric. Intervals and paired comparisons are made of these;
    ``more`` are arrays that the task's own figures read.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, score=score.astype(np.float64), index=index, family=family, **more)  # type: ignore[arg-type]  # numpy's stub takes no arrays by keyword
    write_whole(path, buffer.getbuffer())
