"""The fields of what is changed most in pre-training, and the settings that they stand for."""

from __future__ import annotations

from pydantic import Field, JsonValue

from flows.forms.available import methods_of
from flows.forms.base import RunningForm, override, overrides
from sa3d.config.base import Positive, Seed

_EMPTY = "empty: as in params.yaml"
_FIELDS = ("mask_ratio", "epochs", "lr", "batch_size")


class PretrainingForm(RunningForm):
    """A form with the most used settings of pre-training. They hold for every variant."""

    mask_ratio: float | None = Field(
        None, gt=0.0, lt=1.0, description=f"share of patches that are masked; {_EMPTY}"
    )
    epochs: Positive | None = Field(None, description=f"passes over the clouds; {_EMPTY}")
    lr: float | None = Field(None, gt=0.0, title="Learning rate", description=f"its peak; {_EMPTY}")
    batch_size: int | None = Field(None, ge=2, description=f"clouds a step; {_EMPTY}")
    seeds: tuple[Seed, ...] = Field((), description=f"a whole run each; {_EMPTY}")

    @property
    def typed(self) -> dict[str, JsonValue]:
        """The fields that were filled in."""
        given = {name: getattr(self, name) for name in _FIELDS}
        found: dict[str, JsonValue] = {k: v for k, v in given.items() if v is not None}
        if self.seeds:
            found["seeds"] = list(self.seeds)
        return found

    def overrides_for(self, experiment: str) -> list[str]:
        """All that is changed in an experiment, as ``--set`` takes it.

        A recipe may give a variant epochs of its own; who fills in the field means that one too.
        """
        found = []
        variants = methods_of(experiment, self.file())
        for name, value in self.typed.items():
            if name == "seeds":
                found.append(override(name, value))
                continue
            found.append(override(f"pretrain.{name}", value))
            found += [override(f"variants.{v}.{name}", value) for v in variants]
        return found + overrides(self.settings)
