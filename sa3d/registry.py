"""What can be named in ``params.yaml``, and where it lives.

One line here and one new file make a new mask strategy, method, backbone, data source or task
(``docs/extending.md``). Places are written ``module:attribute`` and imported on first use, so
that checking a name costs no import of torch.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sa3d.errors import ConfigError

if TYPE_CHECKING:
    from sa3d.tasks.base import Task

RESULT_NEUTRAL: Final = True


class Component(NamedTuple):
    """A component and its settings.

    Attributes:
        where: the class or function.
        settings: its settings class, in a module that does not import torch.
    """

    where: str
    settings: str


class Architecture(NamedTuple):
    """A backbone, its settings and its models for downstream tasks.

    Attributes:
        where: the :class:`~sa3d.models.backbone.Backbone`.
        settings: its :class:`~sa3d.models.settings.BackboneConfig`, in a module that does not
            import torch.
        classifier: its :class:`~sa3d.models.downstream.Classifier`.
        segmenter: its :class:`~sa3d.models.downstream.Segmenter`; None: it has none.
        official: the layouts of its published checkpoints
            (:class:`~sa3d.models.official.Layout`); None: none is known.
    """

    where: str
    settings: str
    classifier: str
    segmenter: str | None = None
    official: str | None = None


BACKBONES: dict[str, Architecture] = {
    "point-mae": Architecture(
        "sa3d.models.point_mae.backbone:PointMAE",
        "sa3d.models.point_mae.settings:PointMAEConfig",
        "sa3d.models.point_mae.heads:PointMAEClassifier",
        "sa3d.models.point_mae.heads:PointMAESegmenter",
        "sa3d.models.point_mae.official:LAYOUTS",
    ),
    "point-m2ae": Architecture(
        "sa3d.models.point_m2ae.backbone:PointM2AE",
        "sa3d.models.point_m2ae.settings:PointM2AEConfig",
        "sa3d.models.point_m2ae.heads:PointM2AEClassifier",
        "sa3d.models.point_m2ae.heads:PointM2AESegmenter",
        "sa3d.models.point_m2ae.official:LAYOUTS",
    ),
}

METHODS: dict[str, Component] = {
    "mae": Component("sa3d.methods.mae.method:MAE", "sa3d.methods.mae.settings:MAEConfig"),
    "sa3d": Component("sa3d.methods.sa3d.method:SA3D", "sa3d.methods.sa3d.settings:SA3DConfig"),
    "sa3df": Component(
        "sa3d.methods.sa3df.method:SA3DF", "sa3d.methods.sa3df.settings:SA3DFConfig"
    ),
}

MASKS: dict[str, Component] = {
    "random": Component("sa3d.masking.random:RandomMask", "sa3d.masking.settings:MaskConfig"),
    "block": Component("sa3d.masking.block:BlockMask", "sa3d.masking.settings:MaskConfig"),
    "gc": Component(
        "sa3d.masking.gc.strategy:GeometricMask", "sa3d.masking.gc.settings:GeometricMaskConfig"
    ),
}

SOURCES: dict[str, Component] = {
    "shapes": Component(
        "sa3d.data.sources.shapes.source:prepare",
        "sa3d.data.sources.shapes.settings:ShapesSource",
    ),
    "procedural": Component(
        "sa3d.data.sources.procedural.source:prepare",
        "sa3d.data.sources.procedural.settings:ProceduralSource",
    ),
    "kicad": Component(
        "sa3d.data.sources.kicad.source:prepare",
        "sa3d.data.sources.kicad.settings:KicadSource",
    ),
    "folder": Component(
        "sa3d.data.sources.folder.source:prepare",
        "sa3d.data.sources.folder.settings:FolderSource",
    ),
    "shapenet55": Component(
        "sa3d.data.sources.shapenet55.source:prepare",
        "sa3d.data.sources.shapenet55.settings:ShapeNet55Source",
    ),
    "modelnet40": Component(
        "sa3d.data.sources.modelnet40.source:prepare",
        "sa3d.data.sources.modelnet40.settings:ModelNet40Source",
    ),
    "modelnet40-hdf5": Component(
        "sa3d.data.sources.modelnet40_hdf5.source:prepare",
        "sa3d.data.sources.modelnet40_hdf5.settings:ModelNet40Hdf5Source",
    ),
    "modelnet-fewshot": Component(
        "sa3d.data.sources.modelnet_fewshot.source:prepare",
        "sa3d.data.sources.modelnet_fewshot.settings:ModelNetFewshotSource",
    ),
    "scanobjectnn": Component(
        "sa3d.data.sources.scanobjectnn.source:prepare",
        "sa3d.data.sources.scanobjectnn.settings:ScanObjectNNSource",
    ),
    "shapenetpart": Component(
        "sa3d.data.sources.shapenetpart.source:prepare",
        "sa3d.data.sources.shapenetpart.settings:ShapeNetPartSource",
    ),
}

# formats of 3-D models by suffix: functions from a file's bytes to a cloud or mesh
READERS: dict[str, str] = {
    "off": "sa3d.data.readers.meshes:read_off",
    "obj": "sa3d.data.readers.meshes:read_obj",
    "ply": "sa3d.data.readers.ply:read_ply",
    "stl": "sa3d.data.readers.meshes:read_stl",
    "glb": "sa3d.data.readers.meshes:read_glb",
    "npy": "sa3d.data.readers.arrays:read_npy",
    "npz": "sa3d.data.readers.arrays:read_npz",
    "xyz": "sa3d.data.readers.text:read_text",
    "txt": "sa3d.data.readers.text:read_text",
    "pcd": "sa3d.data.readers.pcd:read_pcd",
    "las": "sa3d.data.readers.las:read_las",
    "laz": "sa3d.data.readers.las:read_las",
    "wrl": "sa3d.data.readers.wrl:read_wrl",
}

AUGMENTATIONS: dict[str, str] = {
    "none": "sa3d.data.transforms:none",
    "scale_translate": "sa3d.data.transforms:scale_translate",
    "scale_translate_small": "sa3d.data.transforms:scale_translate_small",
    "rotate_y": "sa3d.data.transforms:rotate_y",
}

PRETRAIN = "pretrain"  # the one task that does not start from another's model
# each a sa3d.tasks.base.Task, in a module that does not import torch
TASKS: dict[str, str] = {
    PRETRAIN: "sa3d.tasks.pretrain.task:TASK",
    "svm": "sa3d.tasks.svm.task:TASK",
    "classify": "sa3d.tasks.classify.task:TASK",
    "segment": "sa3d.tasks.segment.task:TASK",
    "fewshot": "sa3d.tasks.fewshot.task:TASK",
}


def task(name: str) -> Task:
    """The description of a task.

    Raises:
        ConfigError: a name that is not registered.
    """
    found: Task = load(TASKS, "task", name)
    return found


def downstream() -> list[str]:
    """The tasks that start from a pre-trained model, or from random weights."""
    return [name for name in TASKS if name != PRETRAIN]


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known word closest to ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def require(table: Mapping[str, object], kind: str, name: str) -> str:
    """``name`` itself if the table has it.

    Raises:
        ConfigError: naming the kind, the value and what is known.
    """
    if name not in table:
        raise ConfigError(
            f"unknown {kind} '{name}'{nearest(name, table)}; known: {', '.join(sorted(table))}"
        )
    return name


def known(table: Mapping[str, object], kind: str) -> Callable[[str], str]:
    """A validator that refuses names which are not in ``table``.

    It raises ``ValueError``, to which pydantic adds the key.
    """

    def check(name: str) -> str:
        try:
            return require(table, kind, name)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return check


def place(entry: str | Component | Architecture) -> str:
    """``module:attribute`` of a registry's entry."""
    return entry if isinstance(entry, str) else entry.where


def load(table: Mapping[str, str | Component | Architecture], kind: str, name: str) -> Any:
    """The object registered under ``name``, imported on this first use.

    Raises:
        ConfigError: a name that is not registered.
    """
    return load_at(place(table[require(table, kind, name)]))


def settings_of(table: Mapping[str, Component | Architecture], kind: str, name: str) -> Any:
    """The settings class of the component registered under ``name``.

    Raises:
        ConfigError: a name that is not registered.
    """
    return load_at(table[require(table, kind, name)].settings)


def load_at(where: str) -> Any:
    """The object at ``module:attribute``."""
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)
