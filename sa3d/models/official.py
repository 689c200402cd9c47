"""How published code names the tensors of its models: the vocabulary of the tables.

Each backbone has its tables in ``sa3d/models/<backbone>/official.py``, named by the registry;
:mod:`sa3d.checkpoints.convert` reads them. A row names a module or a tensor on both sides. Names
are compared whole, part by part: nothing is renamed because a text occurs somewhere in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from sa3d.data.store import Normalisation

CLASSIFIER_NEEDS: Final = ("num_classes", "pooling")
SEGMENTER_NEEDS: Final = ("num_parts", "num_categories")

Kind = Literal["pretrain", "classifier", "segmenter"]
#: how the same tensor is stored in published code: alike; as the weight of a convolution of
#: kernel 1, (out, in, 1) for (out, in); or as a token (1, C) for (1, 1, C)
Form = Literal["same", "conv", "token"]
Shapes = Mapping[str, tuple[int, ...]]

#: our name of what published code keeps and no model here uses, before its own name
KEPT: Final = "official"


@dataclass(frozen=True)
class Row:
    """A module or tensor: its name in published code, and in ours.

    Whatever stands below it (``.weight``, ``.0.norm1.bias``) has the same name on both sides.
    """

    theirs: str
    ours: str
    form: Form = "same"

    def to_ours(self, value: Tensor) -> Tensor:
        """A published tensor as ours; one of another rank is left for the comparison of shapes."""
        if self.form == "conv" and value.dim() == 3 and value.shape[2] == 1:
            return value.squeeze(2)
        if self.form == "token" and value.dim() == 2:
            return value.unsqueeze(0)
        return value

    def to_theirs(self, value: Tensor) -> Tensor:
        """The inverse of :meth:`to_ours`."""
        if self.form == "conv" and value.dim() == 2:
            return value.unsqueeze(2)
        return value.squeeze(0) if self.form == "token" else value


@dataclass(frozen=True)
class Recipe:
    """What published training used and no tensor shows.

    Attributes:
        words: whose training it is.
        points: of a cloud.
        normalisation: of its clouds.
        model: settings of the backbone, where they are not the defaults.
        classes: names of the classes, where published code fixes them.
        parts: for part segmentation: how many parts each of these classes has. Part numbers go on
            from class to class.
    """

    words: str
    points: int
    normalisation: Normalisation
    model: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Inferred:
    """What the tensors of a checkpoint show; what they do not show is not in here.

    Attributes:
        model: settings of the backbone.
        head: what else the model is built with, of the names in :attr:`Layout.needs`.
    """

    model: dict[str, Any]
    head: dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """One kind of published checkpoint.

    Attributes:
        name: for the command line.
        title: for people.
        kind: what the model is here.
        container: key under which published code keeps the weights; empty: they are the file.
        rows: all tensors of the model.
        infer: reads shapes, by our names.
        needs: what the model is built with beside the settings of its backbone: `num_classes` and
            `pooling` of a classifier, `num_parts` and `num_categories` of a segmenter, `gc_depth`
            of a pre-trained model with a GC predictor.
        recipes: by number of classes or parts; None: of any number.
        unused: LayerNorms that published code has and never uses, by our name (below
            :data:`KEPT`): a LayerNorm of ours with the same shapes. They are kept for the way
            back.
    """

    name: str
    title: str
    kind: Kind
    container: str
    rows: tuple[Row, ...]
    infer: Callable[[Shapes], Inferred]
    recipes: Mapping[int | None, Recipe]
    needs: tuple[str, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)


def known(**values: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def size(shapes: Shapes, name: str, axis: int) -> int | None:
    """Length of an axis of a tensor; None: there is no such tensor or axis."""
    shape = shapes.get(name, ())
    return shape[axis] if axis < len(shape) else None


def count(shapes: Shapes, prefix: str) -> int | None:
    """How many modules ``prefix.0``, ``prefix.1``, ... there are, up to the last; None: none."""
    start = f"{prefix}."
    numbers = {name[len(start) :].partition(".")[0] for name in shapes if name.startswith(start)}
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=None)


def all_or_none(values: Iterable[int | None]) -> tuple[int, ...] | None:
    """The values as a setting of several scales; None where one is not known."""
    found = tuple(values)
    return None if None in found else tuple(value for value in found if value is not None)


def patch_embed(theirs: str, ours: str) -> tuple[Row, ...]:
    """The mini-PointNet of a patch: two layers, the maximum, two layers."""
    return (
        Row(f"{theirs}.first_conv.0", f"{ours}.point1", "conv"),
        Row(f"{theirs}.first_conv.1", f"{ours}.norm1"),
        Row(f"{theirs}.first_conv.3", f"{ours}.point2", "conv"),
        Row(f"{theirs}.second_conv.0", f"{ours}.patch1", "conv"),
        Row(f"{theirs}.second_conv.1", f"{ours}.norm2"),
        Row(f"{theirs}.second_conv.3", f"{ours}.patch2", "conv"),
    )


def category_embed(theirs: str, ours: str) -> tuple[Row, ...]:
    """The category of a cloud, embedded."""
    return (Row(f"{theirs}.0", f"{ours}.lift", "conv"), Row(f"{theirs}.1", f"{ours}.norm"))


def propagation(theirs: str, ours: str) -> tuple[Row, ...]:
    """Features carried to the points of a cloud."""
    return (
        Row(f"{theirs}.mlp_convs.0", f"{ours}.lift", "conv"),
        Row(f"{theirs}.mlp_bns.0", f"{ours}.lift_norm"),
        Row(f"{theirs}.mlp_convs.1", f"{ours}.out", "conv"),
        Row(f"{theirs}.mlp_bns.1", f"{ours}.out_norm"),
    )


def part_head(layers: int, ours: str = "head") -> tuple[Row, ...]:
    """``convs1``, ``bns1``, ``convs2``, ... of ``layers`` layers, the last one without BatchNorm.

    Ours: ``first``, then ``rest`` = norm, ReLU, dropout, and [layer, norm, ReLU] again and again.
    """
    rows = [Row("convs1", f"{ours}.first", "conv"), Row("bns1", f"{ours}.rest.0")]
    for number in range(2, layers + 1):
        at = 3 * (number - 1)
        rows.append(Row(f"convs{number}", f"{ours}.rest.{at}", "conv"))
        if number < layers:
            rows.append(Row(f"bns{number}", f"{ours}.rest.{at + 1}"))
    return tuple(rows)
