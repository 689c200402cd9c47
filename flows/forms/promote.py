"""The form of ``promote``: a model of the registry, for the rules of ``gate`` in params.yaml."""

from __future__ import annotations

from pydantic import Field

from flows.forms import available
from flows.forms.base import Form, choices, titled
from sa3d.config.base import Positive


class PromoteForm(Form):
    """Let the rules of `gate` in params.yaml decide whether a model becomes the champion."""

    model: str = Field(
        min_length=1,
        description="its name in the registry; models are registered by experiment and pretrain",
        json_schema_extra=choices(available.models),
    )
    version: Positive | None = Field(
        None, description="which version; empty: the one that is the candidate"
    )

    @property
    def title(self) -> str:
        """The flow run's name."""
        return titled(self.model, {"version": self.version})
