"""The first task of a flow: what is to be done, or why it cannot be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows.forms.base import RunningForm
from flows.plan import Plan
from flows.plan import plan as nodes_of
from flows.request import Request
from flows.settings import Settings, settle
from sa3d.errors import UserError
from sa3d.tracking import mlflow_store

REFUSED: Final = "Refused"  # name of the state of what was not begun


@dataclass(frozen=True)
class Planned:
    """What a flow does.

    Attributes:
        request: what the form asks for.
        steps: the nodes.
        settings: that the children share.
    """

    request: Request
    steps: Plan
    settings: Settings


@task(task_run_name="plan", cache_policy=NO_CACHE)
def plan(form: RunningForm, within: str = "") -> Planned | State[None]:
    """Refuse at once whatever can be refused, before anything costs time.

    A mistake of the user is a state and its message: an exception would be logged with a traceback.

    Args:
        form: what was asked for.
        within: end of the name of the report folder, where the form names none.
    """
    try:
        request, offline = form.request(), mlflow_store.offline()
        if within and not form.out:
            out = request.out.with_name(f"{request.out.name}-{within}")
            request = replace(request, out=out)
        steps = nodes_of(*request.configs, register=request.register and not offline)
        settings = settle(*request.configs, name=request.name)
        if not offline:
            mlflow_store.init_store()
    except UserError as error:
        return refused(error)
    return Planned(request, steps, settings)


def refused(error: UserError) -> State[None]:
    """The state of what cannot be begun."""
    return Failed(name=REFUSED, message=str(error))
