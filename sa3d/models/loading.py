"""Loading parts of an exported state by prefix, strictly: nothing is skipped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sa3d.errors import CheckpointError


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a model and of a state, by name."""

    loaded: tuple[str, ...]  # tensors of the model taken from the state
    fresh: tuple[str, ...]  # tensors of the model that the state is not expected to have
    unused: tuple[str, ...]  # tensors of the state that the model has no place for, by design

    def __str__(self) -> str:
        return (
            f"{len(self.loaded)} tensors loaded, {len(self.fresh)} start fresh, "
            f"{len(self.unused)} of the file not needed"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def load_prefixed(module: nn.Module, state: Mapping[str, Tensor], prefix: str) -> tuple[str, ...]:
    """Load ``module`` from the entries of ``state`` under ``prefix``, one to one.

    Returns:
        The module's tensor names, all of which were loaded.

    Raises:
        CheckpointError: naming what is missing, unexpected or of another shape; the module
            is then unchanged.
    """
    own = module.state_dict()
    given = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    wrong = []
    if missing := [name for name in own if name not in given]:
        wrong.append(f"lacks {_some(missing)}")
    if unexpected := [name for name in given if name not in own]:
        wrong.append(f"has {_some(unexpected)}, unknown to this model")
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    if shapes:
        wrong.append(f"has {_some(shapes)}")
    if wrong:
        raise CheckpointError(
            f"these weights do not fit the configured model: under '{prefix}' the file "
            + "; it ".join(wrong)
            + ". Use the `model` section that they were trained with."
        )
    module.load_state_dict(given)
    return tuple(own)
