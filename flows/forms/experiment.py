"""The form of ``experiment``: an experiment of ``params.yaml``, and what is changed in it."""

from __future__ import annotations

from pydantic import Field

from flows.forms import available
from flows.forms.base import choices, titled
from flows.forms.narrow import only
from flows.forms.pretraining import PretrainingForm
from flows.request import Cell, Request
from sa3d.config.loading import load_experiment, require_data


class ExperimentForm(PretrainingForm):
    """Run an experiment of params.yaml: pre-train, register, evaluate, compare, report."""

    experiment: str = Field(
        description="which one; params.yaml describes each",
        json_schema_extra=choices(available.experiments),
    )
    variants: tuple[str, ...] = Field(
        (),
        description="which ways to an encoder are compared (a teacher is pre-trained with its "
        "student); empty: all of the experiment",
        json_schema_extra=choices(available.variants),
    )

    @property
    def title(self) -> str:
        """The flow run's name: what differs from other runs."""
        return titled(self.experiment, {"variants": self.variants}, self.typed, self.settings)

    def request(self) -> Request:
        """What is to be done.

        Raises:
            ConfigError: a name, key or value that is not possible, or data that nothing makes.
        """
        file = self.file()
        config = load_experiment(self.experiment, file, self.overrides_for(self.experiment))
        if self.variants:
            config = only(config, self.variants)
        require_data(config, file)
        return Request(config.name, (Cell(config),), self.folder(config.name))
