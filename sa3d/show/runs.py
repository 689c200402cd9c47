"""Pictures of what a run left in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sa3d import registry
from sa3d.errors import DataError
from sa3d.masking.base import MaskStrategy, largest
from sa3d.metrics import names as keys
from sa3d.utils.files import unread
from sa3d.viz import explain as ex
from sa3d.viz import segmented as seg

COLUMNS: Final = 5  # epochs side by side
MOST: Final = 6  # clouds
_FOLDER: Final = "the folder of a finished run"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it is.
        config, result: its ``config.json`` and ``result.json``.
    """

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]

    @property
    def title(self) -> str:
        """Variant, data and seed."""
        spec = self.result["spec"]
        return f"{spec['variant']} on {spec['data']}, seed {spec['seed']}"

    @property
    def settings(self) -> dict[str, Any]:
        """What the run's task or method was set to."""
        return dict(self.config["settings"])


def open_run(folder: Path, *, task: str) -> Run:
    """A finished run of a task.

    Raises:
        DataError: it is none.
    """
    trees = []
    for name in ("config.json", "result.json"):
        file = folder / name
        try:
            trees.append(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise DataError(f"{folder} is not {_FOLDER}: it has no {name}") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{file} {unread(error) or 'is damaged'}") from None
    try:
        found = str(trees[1]["spec"]["task"])
    except (KeyError, TypeError):
        raise DataError(f"{folder / 'result.json'} is not the result of a run") from None
    if found != task:
        raise DataError(f"{folder} is a run of `sa3d {found}`; this picture needs one of {task}")
    return Run(folder, *trees)


def explained(run: Run) -> ex.Explained:
    """The clouds that a pre-training left for pictures.

    Raises:
        DataError: there are none, or the file cannot be read.
    """
    name = run.result.get("artifacts", {}).get("explain")
    if not name:
        raise DataError(f"{run.folder} left no clouds for pictures ({ex.FILE})")
    return ex.load_explain(run.folder / str(name))


def segmented(run: Run) -> seg.Segmented:
    """The clouds with their parts that a segmentation left for pictures.

    Raises:
        DataError: there are none, or the file cannot be read.
    """
    name = run.result.get("artifacts", {}).get("examples")
    if not name:
        raise DataError(f"{run.folder} left no clouds for pictures ({seg.FILE})")
    return seg.load_segmented(run.folder / str(name))


def confusion(run: Run) -> tuple[np.ndarray, list[str], float]:
    """Counts (T, T), names of the classes, and the test accuracy.

    Raises:
        DataError: the run has none.
    """
    table = run.result.get("details", {}).get("confusion")
    if not table:
        raise DataError(f"{run.folder} has no confusion matrix")
    matrix = np.asarray(table["matrix"], dtype=np.int64)
    return (
        matrix,
        [str(n) for n in table["class_names"]],
        float(run.result["metrics"][keys.TEST_ACC]),
    )


# --- masks ---------------------------------------------------------------------------------


def epochs_of(run: Run) -> int:
    """Epochs of a pre-training."""
    return int(run.settings["epochs"])


def strategy_of(run: Run, data: ex.Explained, name: str | None) -> MaskStrategy:
    """The mask strategy of a pre-training, or another one for the same number of patches.

    Raises:
        ConfigError: no such strategy.
        DataError: it chooses by scores, and the run's method predicts none.
    """
    own = dict(run.settings["mask"])
    given = own if name in (None, own["name"]) else {"name": name}
    settings = registry.settings_of(registry.MASKS, "mask strategy", given["name"])(**given)
    if settings.needs_scores and data.gc is None:
        raise DataError(
            f"mask strategy {given['name']} chooses by predicted complexity, and the method of "
            f"{run.folder} predicts none"
        )
    made: type[MaskStrategy] = registry.load(registry.MASKS, "mask strategy", given["name"])
    return made.from_config(settings, int(data.mask[0].sum()))


def masked_at(
    data: ex.Explained, strategy: MaskStrategy, epoch: int, epochs: int, seed: int = 0
) -> ex.Explained:
    """The same clouds with the mask of an epoch (0-based); what was rebuilt is of another mask."""
    import torch

    from sa3d.engine.types import Progress

    generator = torch.Generator().manual_seed(seed)
    scores = None if data.gc is None else torch.from_numpy(data.gc)
    progress = Progress(epoch, epochs, epoch, 1, generator)
    flags = strategy(torch.from_numpy(data.centers), scores, progress)
    hard = torch.zeros_like(flags)
    if scores is not None:
        hard = largest(scores, strategy.hard_budget(epoch, epochs)) & flags
    return replace(data, mask=flags.numpy(), hard=hard.numpy())


def spread_epochs(epochs: int, count: int = COLUMNS) -> list[int]:
    """Epochs (0-based) from the first to the last."""
    found = np.linspace(0, epochs - 1, count).round().astype(int)
    return sorted({int(epoch) for epoch in found})


def budgets(strategy: MaskStrategy, epoch: int, epochs: int) -> str:
    """An epoch and how much of its mask is chosen for being hard."""
    hard = strategy.hard_budget(epoch, epochs)
    return f"epoch {epoch + 1}: {hard} of {strategy.masked} hard"


def masks_of(
    run: Run, data: ex.Explained, epochs: Sequence[int], strategy: str | None = None
) -> list[tuple[str, ex.Explained]]:
    """Each epoch in words, and the clouds with its mask.

    Raises:
        ConfigError, DataError: as of :func:`strategy_of`.
    """
    chooser, total = strategy_of(run, data, strategy), epochs_of(run)
    return [
        (budgets(chooser, epoch, total), masked_at(data, chooser, epoch, total)) for epoch in epochs
    ]


def chosen(data: ex.Explained | seg.Segmented, most: int) -> Sequence[int]:
    """The clouds that are shown."""
    return range(min(len(data), most))
