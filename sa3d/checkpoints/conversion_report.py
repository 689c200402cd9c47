"""What a conversion did with every tensor, and where every setting comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from sa3d.checkpoints.renaming import Comparison, some
from sa3d.models.official import KEPT, Layout, Recipe
from sa3d.models.settings import BackboneConfig


@dataclass(frozen=True)
class Report:
    """Of one conversion.

    Attributes:
        layout: of the published checkpoint.
        container: key under which its weights stand; empty: they are the file.
        epoch: that it tells; None: none.
        found: published names: loaded (or written), missing, unexpected.
        fresh: our names of tensors that it lacked, with random weights; on the way back, of those
            that this program has not and published code never trains.
        shown: settings of `model` and `head` that tensors showed.
        given: settings that the user gave.
        recipe: the published training that the other settings are taken from.
        model: the backbone.
        preprocessing: how clouds are prepared for it; empty on the way back.
        back: whether a published checkpoint was written.
        note: what else must be known of it.
    """

    layout: Layout
    container: str
    epoch: int | None
    found: Comparison
    fresh: tuple[str, ...]
    shown: Mapping[str, Any]
    given: Mapping[str, Any]
    recipe: Recipe | None
    model: BackboneConfig
    preprocessing: Mapping[str, Any]
    back: bool = False
    note: str = ""

    @property
    def assumed(self) -> dict[str, Any]:
        """Settings of the backbone that no tensor showed and nobody gave."""
        told = {"backbone", *self.shown.get("model", ()), *self.given.get("model", ())}
        return {k: v for k, v in self.model.model_dump(mode="json").items() if k not in told}

    def provenance(self) -> dict[str, Any]:
        """For the card of a converted model."""
        return {
            "layout": self.layout.name,
            "container": self.container,
            "epoch": self.epoch,
            "shown": {key: dict(value) for key, value in self.shown.items()},
            "given": dict(self.given),
            "assumed": self.assumed,
            "recipe": self.recipe and self.recipe.words,
            "fresh": list(self.fresh),
            "left_out": list(self.found.unexpected),
        }

    def lines(self) -> list[str]:
        """For people."""
        where = self.container or "the file itself"
        epoch = "" if self.epoch is None else f", epoch {self.epoch}"
        found = self.found
        text = [
            f"{self.layout.name}: {self.layout.title}; weights in {where}{epoch}",
            _line("written" if self.back else "loaded", found.loaded),
            _line("missing", found.missing),
            _line("unexpected", found.unexpected, " (left out)"),
        ]
        if self.back:
            filled = [_line("filled in", self.fresh, ": unused there")] if self.fresh else []
            return [*text, *filled, *([self.note] if self.note else [])]
        kept = [row.theirs for row in self.layout.rows if row.ours in self.layout.unused]
        if kept:
            text.append(f"kept for the way back, unused: {', '.join(kept)} (as {KEPT}.*)")
        if self.fresh:
            text.append(_line("random weights", self.fresh))
        text += self._settings()
        section = self.model.model_dump(mode="json", exclude_defaults=True)
        section = {"backbone": self.model.backbone} | section
        text += ["", "For params.yaml:", ""]
        text += yaml.safe_dump({"model": section}, sort_keys=False).rstrip().splitlines()
        return text

    def _settings(self) -> list[str]:
        found = []
        for key, values in self.shown.items():
            if values:
                found.append(f"shown by tensors: {key}: {_pairs(values)}")
        for key, values in self.given.items():
            found.append(f"given: {key}: {_pairs(values)}")
        if self.recipe is not None:
            found.append(
                f"not in the file, taken from {self.recipe.words}: {_pairs(self.assumed)} "
                "(--set model.KEY=VALUE)"
            )
            found.append(f"clouds: {_pairs(self.preprocessing)} (--set preprocessing.KEY=VALUE)")
        return found


def _line(what: str, names: tuple[str, ...], more: str = "") -> str:
    first = f"  {some(names)}{more}" if names else ""
    return f"{what:<15}{len(names):>5}{first}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in values.items())


def _plain(value: Any) -> str:
    return (
        "[" + ", ".join(map(str, value)) + "]" if isinstance(value, (list, tuple)) else str(value)
    )
