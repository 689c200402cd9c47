"""What a conversion did with every tensor, and where every setting comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from sa3d.checkpoints.blueprint import Blueprint
from sa3d.checkpoints.renaming import Comparison, some
from sa3d.models.official import KEPT, Layout


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
        plan: the model that was made; None: a published checkpoint was written.
        note: what else must be known.
    """

    layout: Layout
    container: str
    epoch: int | None
    found: Comparison
    fresh: tuple[str, ...]
    plan: Blueprint | None
    note: str = ""

    def provenance(self) -> dict[str, Any]:
        """For the card of a converted model."""
        plan = self.plan
        assert plan is not None, "a published checkpoint has no card"
        return {
            "layout": self.layout.name,
            "container": self.container,
            "epoch": self.epoch,
            "shown": plan.shown,
            "given": plan.given,
            "assumed": plan.assumed,
            "recipe": plan.recipe.words,
            "names": None if plan.clouds is None else plan.clouds.path.stem,
            "fresh": list(self.fresh),
            "left_out": list(self.found.unexpected),
        }

    def lines(self) -> list[str]:
        """For people."""
        where = self.container or "the file itself"
        epoch = "" if self.epoch is None else f", epoch {self.epoch}"
        found, plan = self.found, self.plan
        text = [
            f"{self.layout.name}: {self.layout.title}; weights in {where}{epoch}",
            _line("loaded" if plan else "written", found.loaded),
            _line("missing", found.missing),
            _line("unexpected", found.unexpected, " (left out)"),
        ]
        if self.fresh:
            text.append(_line("random weights" if plan else "as at first", self.fresh))
        if plan is not None:
            text += [*self._kept(), *_settings(plan), "", "For params.yaml:", "", *_section(plan)]
        return [*text, self.note] if self.note else text

    def _kept(self) -> list[str]:
        """What published code keeps and nothing uses."""
        unused = [row.theirs for row in self.layout.rows if row.ours in self.layout.unused]
        kept = [name for name in self.found.loaded if name.startswith(tuple(unused))]
        return [f"of these unused, for the way back: {', '.join(kept)} (as {KEPT}.*)"] * bool(kept)


def _settings(plan: Blueprint) -> list[str]:
    """Where each setting comes from."""
    found = [f"shown by tensors: {key}: {_pairs(v)}" for key, v in plan.shown.items() if v]
    found += [f"given: {key}: {_pairs(values)}" for key, values in plan.given.items()]
    clouds = {
        "points": plan.preprocessing.points,
        "normalisation": plan.preprocessing.normalisation,
    }
    return [
        *found,
        f"not in the file, taken from {plan.recipe.words}: {_pairs(plan.assumed)} "
        "(--set model.KEY=VALUE)",
        f"clouds: {_pairs(clouds)} (--set preprocessing.KEY=VALUE)",
    ]


def _section(plan: Blueprint) -> list[str]:
    """The `model` section of an experiment for this model, without what is the default."""
    changed = plan.model.model_dump(mode="json", exclude_defaults=True)
    section = {"model": {"backbone": plan.model.backbone} | changed}
    return yaml.safe_dump(section, sort_keys=False).splitlines()


def _line(what: str, names: tuple[str, ...], more: str = "") -> str:
    first = f"  {some(names)}{more}" if names else ""
    return f"{what:<15}{len(names):>5}{first}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in values.items())


def _plain(value: Any) -> str:
    many = isinstance(value, (list, tuple))
    return f"[{', '.join(map(str, value))}]" if many else str(value)
