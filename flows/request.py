"""What a flow is to do, once its form was read and found possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa3d.config.experiment import ExperimentConfig


@dataclass(frozen=True)
class Cell:
    """One experiment of a request.

    Attributes:
        config: its settings. Its name is unique in the request.
        values: what makes it differ from the other cells, by setting; empty where it is alone.
    """

    config: ExperimentConfig
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """Experiments that one flow carries out side by side.

    Attributes:
        name: of the whole, in titles and as the default folder of its report.
        cells: at least one.
        out: folder of the report.
        register: whether pre-trained models become versions in MLflow's registry.
    """

    name: str
    cells: tuple[Cell, ...]
    out: Path
    register: bool = True

    @property
    def configs(self) -> tuple[ExperimentConfig, ...]:
        """The settings of every cell."""
        return tuple(cell.config for cell in self.cells)

    @property
    def compares(self) -> bool:
        """Whether its cells are to be compared with each other."""
        return any(cell.values for cell in self.cells)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of all data sets that are read, without repetition."""
        return tuple(dict.fromkeys(name for each in self.configs for name in each.datasets))
