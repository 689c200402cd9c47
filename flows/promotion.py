"""What the flow ``promote`` does: the gate decides, and the run page shows why."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.forms.promote import PromoteForm
from flows.planning import REFUSED
from sa3d.errors import UserError


def decide(form: PromoteForm) -> State[dict[str, Any]]:
    """Let the gate decide; the state of the flow that this is called in."""
    raise NotImplementedError


_ = (UserError, REFUSED, Failed, Completed, create_markdown_artifact)
