"""Which run is which: one short hash of all that decides a run's result.

Settings that the stage reads, data, code, seed and the model it starts from. Two runs with the
same fingerprint are the same run: its checkpoint may be resumed and its result reused. No
torch in here: the flow and the command line ask before anything heavy is imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sa3d.config import ExperimentConfig
from sa3d.errors import CheckpointError, ConfigError, DataError

LENGTH = 16
MODEL_FILE, WEIGHTS_FILE = "model.json", "model.safetensors"

_PACKAGE = Path(__file__).resolve().parent
# What every stage runs through; sources that only make data are covered by the data's digest.
_COMMON = (
    "config.py",
    "components.py",
    "models/**/*.py",
    "masking/**/*.py",
    "losses/**/*.py",
    "engine/**/*.py",
    "tasks/run.py",
    "tasks/exported.py",
    "data/store.py",
    "data/loader.py",
    "data/split.py",
    "data/transforms.py",
)
_OWN = {
    "pretrain": ("tasks/pretrain.py", "tasks/explaining.py"),
    "svm": ("tasks/linear_svm.py", "tasks/evaluation.py"),
    "classify": ("tasks/classify.py", "tasks/evaluation.py"),
}


def fingerprint(
    task: str,
    config: ExperimentConfig,
    *,
    arm: str,
    clouds: Path,
    init: Path | None = None,
    knowledge_teacher: Path | None = None,
) -> str:
    """Fingerprint of a run, 16 hex digits.

    Args:
        task: ``pretrain``, or a downstream task of :data:`sa3d.components.TASKS`.
        config: the experiment; only what ``task`` reads of it counts.
        arm: ``method``, ``baseline`` or ``scratch``.
        clouds: the processed file.
        init: exported model that the task starts from.
        knowledge_teacher: exported model that sa3df distils.

    Raises:
        DataError: no readable data. CheckpointError: no exported model there.
    """
    whole = {
        "task": task,
        "arm": arm,
        "settings": stage_settings(task, config, arm),
        "data": data_digest(clouds),
        "code": code_digest(task),
        "init": init and model_digest(init),
        "knowledge_teacher": knowledge_teacher and model_digest(knowledge_teacher),
    }
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def stage_settings(task: str, config: ExperimentConfig, arm: str) -> dict[str, Any]:
    """The part of ``config`` that decides the result of ``task``."""
    tree = config.model_dump(mode="json")
    points: dict[str, Any] = {"points": config.data.points}
    found: dict[str, Any] = {"seed": config.seed, "model": tree["model"]}
    if task == "pretrain":
        # no validation split here: no label is read and nothing is selected
        stage = config.stage(arm).model_dump(mode="json")
        return found | {"data": points, "pretrain": stage}
    if task not in tree:
        raise ConfigError(f"task '{task}' has no section in the experiment's settings")
    if task == "classify":
        points["val_fraction"] = config.data.val_fraction
    return found | {"data": points, task: tree[task]}


def data_digest(clouds: Path) -> str:
    """Content digest stored in a processed file.

    Raises:
        DataError: missing or not such a file.
    """
    import h5py

    if not clouds.is_file():
        raise DataError(
            f"no processed data set {clouds}; make it with `sa3d data prepare {clouds.stem}`"
        )
    try:
        with h5py.File(clouds, "r") as file:
            return str(file.attrs["digest"])
    except (OSError, KeyError):
        raise DataError(
            f"{clouds} is damaged or of another kind; delete it and make it again with "
            f"`sa3d data prepare {clouds.stem}`"
        ) from None


def find_model(path: Path) -> Path:
    """The exported model folder at ``path``, a run folder or that folder itself.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (path, path / "model"):
        if (folder / MODEL_FILE).is_file() and (folder / WEIGHTS_FILE).is_file():
            return folder
    raise CheckpointError(
        f"no exported model in {path} ({MODEL_FILE} and {WEIGHTS_FILE}, there or in its folder "
        "model/); give the run folder of a finished `sa3d pretrain`"
    )


def model_card(path: Path) -> dict[str, Any]:
    """``model.json`` of an exported model.

    Raises:
        CheckpointError: none there, or not readable.
    """
    file = find_model(path) / MODEL_FILE
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(f"cannot read {file}; export the model again") from None
    if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
        raise CheckpointError(f"{file} is not the description of an exported model")
    return card


def model_digest(path: Path) -> str:
    """sha256 of an exported model's weights, as its ``model.json`` states it."""
    return str(model_card(path)["sha256"])


@cache
def code_digest(task: str) -> str:
    """Hash of the source files that ``task`` runs through, kernels included."""
    digest = hashlib.sha256()
    for name, path in sorted(_sources(task)):
        digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _sources(task: str) -> Iterator[tuple[str, Path]]:
    for pattern in (*_COMMON, *_OWN.get(task, (f"tasks/{task}.py",))):
        for path in _PACKAGE.glob(pattern):
            yield path.relative_to(_PACKAGE).as_posix(), path
    spec = importlib.util.find_spec("point_ops")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("point_ops is not installed; run `make setup`")
    kernels = Path(next(iter(spec.submodule_search_locations)))
    # beside the package in a checkout; an installed wheel has only the package
    for folder, pattern in ((kernels, "*.py"), (kernels.parent / "csrc", "*.[ch]*")):
        for path in folder.glob(pattern):
            yield f"point_ops/{path.name}", path
