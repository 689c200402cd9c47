"""The form of ``ablation``: a grid over any settings of one variant of an experiment."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field, JsonValue

from flows.forms import available
from flows.forms.base import RunningForm, choices, override, overrides, titled
from flows.forms.narrow import only
from flows.request import Cell, Request
from sa3d import registry
from sa3d.config.base import Fraction, Seed
from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import load_experiment, require_data
from sa3d.errors import ConfigError

MOST_CELLS: Final = 64
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Values = Mapping[str, JsonValue]  # of one cell: setting -> value


class AblationForm(RunningForm):
    """Run one variant of an experiment with every combination of the values given below, and
    compare them in one table and one figure. What two combinations share is run once."""

    experiment: str = Field(
        description="which one; params.yaml describes each",
        json_schema_extra=choices(available.experiments),
    )
    variant: str | None = Field(
        None,
        description="which way to an encoder; empty: the reference of the experiment",
        json_schema_extra=choices(available.variants),
    )
    tasks: tuple[str, ...] = Field(
        (),
        description="by which tasks the combinations are compared; empty: all of the experiment",
        json_schema_extra=choices(available.tasks),
    )
    mask_ratio: tuple[Fraction, ...] = Field(
        (), description="shares of patches that are masked, of this variant"
    )
    mask: tuple[str, ...] = Field(
        (),
        title="Mask strategy",
        description="mask strategies, of this variant",
        json_schema_extra=choices(available.masks),
    )
    end_ratio: tuple[Share, ...] = Field(
        (),
        description="shares of the mask that are chosen by hardness at the end of the curriculum; "
        "a strategy without one is run once",
    )
    grid: dict[str, list[JsonValue]] = Field(
        {},
        description='values of any other settings, by key: {"model.depth": [4, 8], '
        '"variants.sa3df.gc_weight": [0.5, 1]}; keys are those of the experiment in params.yaml',
    )
    seeds: tuple[Seed, ...] = Field(
        (), description="a whole run each of every combination; empty: as in params.yaml"
    )

    @property
    def title(self) -> str:
        """The flow run's name: what differs from other runs."""
        axes = {_label(key, self._axes("")): list(values) for key, values in self._axes("").items()}
        name = f"{self.experiment} {self.variant or ''}".strip()
        return titled(name, axes, {"tasks": self.tasks, "seeds": self.seeds}, self.settings)

    def request(self) -> Request:
        """What is to be done.

        Raises:
            ConfigError: a name, key or value that is not possible in any one combination, nothing
                that varies, too many combinations, or data that nothing makes.
        """
        file = self.file()
        common = overrides(self.settings)
        if self.seeds:
            common.append(override("seeds", list(self.seeds)))
        base = load_experiment(self.experiment, file, common)
        variant = self.variant or base.reference
        only(base, [variant], tasks=self.tasks or None)  # the names, before any combination
        axes = self._axes(variant)
        found = self._combinations(axes, variant)
        if len(found) < 2:
            raise ConfigError(
                "an ablation compares two combinations at least: give two values of mask_ratio, "
                "mask, end_ratio or of a setting in grid"
            )
        cells: list[Cell] = []
        for values in found:
            said = {_label(key, axes): value for key, value in values.items()}
            config = load_experiment(self.experiment, file, [*common, *overrides(values)])
            name = _name(base.name, said, [cell.config.name for cell in cells])
            cells.append(Cell(only(config, [variant], tasks=self.tasks or None, name=name), said))
        _compared(cells[0].config)
        for cell in cells:
            require_data(cell.config, file)
        name = f"{base.name}-ablation-{variant}"
        return Request(name, tuple(cells), self.folder(name), register=False)

    def _axes(self, variant: str) -> dict[str, Sequence[JsonValue]]:
        """Every setting that varies, with its values."""
        own = f"variants.{variant}"
        axes: dict[str, Sequence[JsonValue]] = {
            f"{own}.mask_ratio": self.mask_ratio,
            f"{own}.mask.name": self.mask,
            f"{own}.mask.end_ratio": self.end_ratio,
            **self.grid,
        }
        return {key: values for key, values in axes.items() if values}

    def _combinations(self, axes: Mapping[str, Sequence[JsonValue]], variant: str) -> list[Values]:
        """The combinations of all values, each once.

        Raises:
            ConfigError: more than anybody would wait for.
        """
        count = 1
        for values in axes.values():
            count *= len(values)
        if count > MOST_CELLS:
            raise ConfigError(f"{count} combinations are more than {MOST_CELLS}; give fewer values")
        strategy, end = f"variants.{variant}.mask.name", f"variants.{variant}.mask.end_ratio"
        found: list[Values] = []
        for values in itertools.product(*axes.values()):
            cell = dict(zip(axes, values, strict=True))
            if end in cell and strategy in cell and not _has_end(str(cell[strategy])):
                del cell[end]
            if cell not in found:
                found.append(cell)
        return found


def _has_end(strategy: str) -> bool:
    """Whether a mask strategy has a curriculum.

    Raises:
        ConfigError: no such strategy.
    """
    settings = registry.settings_of(registry.MASKS, "mask strategy", strategy)
    return "end_ratio" in settings.model_fields


def _label(key: str, axes: Mapping[str, Any]) -> str:
    """A setting in one word: the end of its key, if that says which one it is."""
    word = "mask" if key.endswith(".mask.name") else key.rpartition(".")[2]
    alike = [other for other in axes if other.rpartition(".")[2] == key.rpartition(".")[2]]
    return word if len(alike) == 1 else key


def _name(base: str, said: Values, taken: Sequence[str]) -> str:
    """``demo-mask_ratio-0.5-gc``, as names of experiments are; each once."""
    words = [base]
    for key, value in said.items():
        words += [str(value)] if key == "mask" else [key, override("", value)[1:]]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(words)).strip("-")
    return name if name not in taken else f"{name}-{len(taken)}"


def _compared(config: ExperimentConfig) -> None:
    if not config.evaluate:
        raise ConfigError(
            f"experiment '{config.name}' evaluates this variant by nothing; there is nothing to "
            "compare"
        )
