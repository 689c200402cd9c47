"""The form of ``pretrain``: one variant of an experiment, for several seeds."""

from __future__ import annotations

from pydantic import Field

from flows.forms import available
from flows.forms.base import choices, titled
from flows.forms.narrow import only
from flows.forms.pretraining import PretrainingForm
from flows.request import Cell, Request
from sa3d.config.loading import load_experiment, require_data
from sa3d.errors import ConfigError


class PretrainForm(PretrainingForm):
    """Pre-train one variant of an experiment (after its teacher), and register the models."""

    experiment: str = Field(
        description="which one; params.yaml describes each",
        json_schema_extra=choices(available.experiments),
    )
    variant: str | None = Field(
        None,
        description="which way to an encoder; empty: the reference of the experiment",
        json_schema_extra=choices(available.pretrained),
    )

    @property
    def title(self) -> str:
        """The flow run's name: what differs from other runs."""
        name = f"{self.experiment} {self.variant or ''}".strip()
        return titled(name, self.typed, self.settings)

    def request(self) -> Request:
        """What is to be done.

        Raises:
            ConfigError: a name, key or value that is not possible, a variant that is not
                pre-trained, or data that nothing makes.
        """
        file = self.file()
        config = load_experiment(self.experiment, file, self.overrides_for(self.experiment))
        variant = self.variant or config.reference
        narrow = only(config, [variant], tasks=[])
        if variant not in config.methods:
            raise ConfigError(
                f"variant {variant} of '{config.name}' is not pre-trained; choose of "
                f"{', '.join(config.methods) or 'another experiment'}"
            )
        require_data(narrow, file)
        return Request(
            f"{config.name} pre-training of {variant}",
            (Cell(narrow),),
            self.folder(f"{config.name}-pretrain-{variant}"),
        )
