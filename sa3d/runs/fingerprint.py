"""Which run is which: one short hash of all that decides a run's result.

Settings that the stage reads, data, code, seed and the model it starts from. Two runs with the
same fingerprint are the same run: its checkpoint may be resumed and its result reused. No
torch in here: the flow and the command line ask before anything heavy is imported.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sa3d.config.experiment import ExperimentConfig
from sa3d.errors import CheckpointError, ConfigError, DataError, UserError, remake
from sa3d.registry import AUGMENTATIONS, BACKBONES, MASKS, PRETRAIN, TASKS, place, require
from sa3d.utils.paths import RESULT

LENGTH = 16
MODEL_FILE, WEIGHTS_FILE = "model.json", "model.safetensors"

_PACKAGE = Path(__file__).resolve().parents[1]
# Modules that no result hangs on: words, files, progress, and settings and names, whose values
# count by themselves.
_NEUTRAL = (
    "sa3d.registry",
    "sa3d.config.experiment",
    "sa3d.engine.signals",
    "sa3d.errors",
    "sa3d.utils.files",
    "sa3d.utils.progress",
    "sa3d.runs.fingerprint",
    "sa3d.tracking.journal",
    "sa3d.metrics.names",
    "sa3d.models.settings",
    "sa3d.utils.paths",
    "sa3d.utils.telemetry",
    "sa3d.viz",
)
# settings that name a component, whose module then counts
_NAMING: dict[str, Mapping[str, Any]] = {
    "backbone": BACKBONES,
    "mask": MASKS,
    "augment": AUGMENTATIONS,
}


# settings that a plain masked autoencoder does not read: changing one does not change a baseline
_SA3D_ONLY = {
    "ema",
    "feature_weight",
    "gc_depth",
    "gc_loss",
    "gc_weight",
    "point_weight",
    "shared_mask_token",
    "switch_epoch",
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
        task: ``pretrain``, or a downstream task of :data:`sa3d.registry.TASKS`.
        config: the experiment; only what ``task`` reads of it counts.
        arm: ``method``, ``baseline`` or ``scratch``.
        clouds: the processed file.
        init: exported model that the task starts from.
        knowledge_teacher: exported model that sa3df distils.

    Raises:
        DataError: no readable data. CheckpointError: no exported model there.
    """
    settings = stage_settings(task, config, arm)
    whole = {
        "task": task,
        "arm": arm,
        "settings": settings,
        "data": data_digest(clouds),
        "code": code_digest(*_roots(task, settings)),
        # a batch is batch_size clouds of each process
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "init": init and model_digest(init),
        "knowledge_teacher": knowledge_teacher and model_digest(knowledge_teacher),
    }
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def stage_settings(task: str, config: ExperimentConfig, arm: str) -> dict[str, Any]:
    """The part of ``config`` that decides the result of ``task``, resolved."""
    tree = config.model_dump(mode="json")
    found: dict[str, Any] = {
        "seed": config.seed,
        "model": tree["model"],
        "data.points": config.data.points,
    }
    # what a field of the program resolves stands resolved, so that saying it changes nothing
    tree["classify"]["pooling"] = config.pooling
    if task == PRETRAIN or TASKS[require(TASKS, "task", task)].trains is None:
        for key in config.model.fine_tuning:
            del found["model"][key]
    if task == PRETRAIN:
        # no validation split here: no label is read and nothing is selected
        stage = config.stage(arm)
        unread = _SA3D_ONLY if stage.method == "mae" else set()
        section = stage.model_dump(
            mode="json", exclude={"mask_ratio", "masked", "point_term"} | unread
        )
        section["masked"] = stage.masked_of(config.model.num_tokens)
        section["point_term"] = stage.point_term
        return found | {task: section}
    for key in TASKS[task].reads:
        value: Any = tree
        for part in key.split("."):
            value = value[part]
        found[key] = value
    return found


def data_digest(clouds: Path) -> str:
    """Content digest stored in a processed file.

    Raises:
        DataError: missing or not such a file.
    """
    import h5py

    if not clouds.is_file():
        raise DataError(f"no processed data set {clouds}; make it with {remake(clouds.stem)}")
    try:
        with h5py.File(clouds, "r") as file:
            return str(file.attrs["digest"])
    except (OSError, KeyError):
        raise DataError(
            f"{clouds} is damaged or of another kind; delete it and make it again with "
            f"{remake(clouds.stem)}"
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


def is_done(run_dir: Path, mark: str) -> bool:
    """Whether the folder holds this run's result.

    Raises:
        UserError: it holds another run.
    """
    for name in (RESULT, "config.json"):
        path = run_dir / name
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"cannot read {path}; delete {run_dir} to begin again") from None
        if found != mark:
            raise UserError(
                f"{run_dir} holds run {found}, this is run {mark} (other settings, data or "
                "code); choose another --out"
            )
        if name == RESULT:
            return True
    return False


@cache
def code_digest(*roots: str) -> str:
    """Hash of all source that runs when ``roots`` (modules) do, kernels included."""
    digest = hashlib.sha256()
    for name, path in sorted({**code_of(roots), **_kernels()}.items()):
        digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def code_of(roots: Iterable[str]) -> dict[str, Path]:
    """``roots`` and every module of this package that they import, by whatever way."""
    found: dict[str, Path] = {}
    waiting: list[tuple[str, Path | None]]
    waiting = [(root, _file(root) or _foreign(root)) for root in roots]
    while waiting:
        module, path = waiting.pop()
        if module in found or path is None or _is_neutral(module):
            continue
        found[module] = path
        parent = module.rpartition(".")[0]  # its __init__ runs too
        waiting += [(name, _file(name)) for name in (parent, *_imports(path, parent))]
    return found


def _roots(task: str, settings: Mapping[str, Any]) -> list[str]:
    """Modules of the task and of the components that its settings name."""
    found = {TASKS[task].where}
    trains = TASKS[task].trains
    if trains is not None:
        found.add(getattr(BACKBONES[settings["model"]["backbone"]], trains))
    for section in settings.values():
        for key in _NAMING.keys() & (section if isinstance(section, dict) else {}):
            found.add(place(_NAMING[key][require(_NAMING[key], key, section[key])]))
    return sorted({where.partition(":")[0] for where in found})


def _file(module: str) -> Path | None:
    """The file of a module of this package; None for anything else."""
    package, *parts = module.split(".")
    if package != _PACKAGE.name or not parts:
        return None
    place = _PACKAGE.joinpath(*parts)
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _foreign(module: str) -> Path:
    """The file of a component that lives elsewhere."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ConfigError(f"no module {module}, which the registry names")
    return Path(spec.origin)


def _is_neutral(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _NEUTRAL)


@cache
def _imports(path: Path, package: str) -> frozenset[str]:
    """Names that a source file imports, at the top or inside a function, but not for types."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def _kernels() -> dict[str, Path]:
    """Sources of point_ops: its Python, and the C++ inside it (wheel) or beside it (checkout)."""
    spec = importlib.util.find_spec("point_ops")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("point_ops is not installed; run `make setup`")
    package = Path(next(iter(spec.submodule_search_locations)))
    places = (package / "csrc", package.parent / "csrc")
    native = next(filter(None, (list(place.glob("*.[ch]*")) for place in places)), [])
    if not native:
        raise ConfigError(f"{package} lacks the sources of its kernels; run `make setup`")
    return {f"point_ops/{path.name}": path for path in (*package.glob("*.py"), *native)}
