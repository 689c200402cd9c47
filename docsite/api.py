"""The pages of the Python API: which objects are public, in the order of their worth to a reader.
What is said of them comes from their docstrings."""

from __future__ import annotations

import importlib
from typing import Final, NamedTuple

import sa3d


class Page(NamedTuple):
    """One page; ``objects`` are full names, by the names under which they are used."""

    name: str
    title: str
    introduction: str
    objects: dict[str, str]


_EXTENSION: Final = (
    "sa3d.registry.Component",
    "sa3d.registry.Architecture",
    "sa3d.masking.base.MaskStrategy",
    "sa3d.masking.base.StepContext",
    "sa3d.masking.settings.MaskConfig",
    "sa3d.models.backbone.Backbone",
    "sa3d.models.settings.BackboneConfig",
    "sa3d.models.downstream.Classifier",
    "sa3d.models.downstream.Segmenter",
    "sa3d.methods.base.Method",
    "sa3d.methods.settings.MethodConfig",
    "sa3d.tasks.base.Task",
    "sa3d.tasks.base.Metric",
    "sa3d.tasks.base.Folds",
    "sa3d.tasks.base.TaskConfig",
    "sa3d.config.base.Frozen",
)


def _offered(module: str) -> dict[str, str]:
    """What a module offers, and where that is defined."""
    found = importlib.import_module(module)
    objects = {name: getattr(found, name) for name in found.__all__ if not name.startswith("_")}
    return {
        f"{module}.{name}": f"{each.__module__}.{each.__qualname__}"
        for name, each in objects.items()
    }


def pages() -> list[Page]:
    """All pages."""
    return [
        Page(
            "sa3d",
            "sa3d",
            f"What `import sa3d` offers (version {sa3d.__version__}): a model in use.",
            _offered("sa3d"),
        ),
        Page(
            "point_ops",
            "point_ops",
            "Geometric kernels, for the CPU and the GPU. [What each computes, and "
            "how fast](../../point_ops.md).",
            _offered("point_ops"),
        ),
        Page(
            "extending",
            "What extensions build on",
            "The classes that a new component inherits or fills in. [How to write "
            "one](../../extending.md).",
            {name: name for name in _EXTENSION},
        ),
    ]


def text(page: Page) -> str:
    """The page itself, which mkdocstrings completes."""
    objects = [
        f"::: {full}\n    options:\n      heading: {name}" for name, full in page.objects.items()
    ]
    return "\n\n".join([f"# {page.title}", page.introduction, *objects])
