"""What the flow ``promote`` does: the gate decides, and the run page shows why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.endings import NotCompleted
from flows.forms.promote import PromoteForm
from flows.planning import REFUSED
from sa3d.errors import UserError

if TYPE_CHECKING:
    from sa3d.tracking.verdict import Check, Verdict

NOT_PROMOTED: Final = "NotPromoted"  # name of the state where the gate refused


def decide(form: PromoteForm) -> State[Any]:
    """Let the gate decide; the state of the flow that this is called in.

    Completed if the model is the champion now, Failed and named "NotPromoted" if the gate refused
    it, "Refused" if there is no such model.
    """
    from sa3d.tracking import gate

    try:
        verdict = gate.promote(form.model, str(form.version) if form.version else "candidate")
    except UserError as error:
        why = str(error)
        return Failed(name=REFUSED, message=why, data=NotCompleted(why, {"refused": why}))
    said = told(verdict)
    create_table_artifact([_row(check) for check in verdict.checks], key="gate")
    notes = "".join(f"\n- {note}" for note in verdict.notes)
    create_markdown_artifact(f"# {said}\n\n{verdict.reason}\n{notes}", key="verdict")
    data = {"refused": "", "verdict": verdict.as_json(), "said": said}
    message = f"{said}: {verdict.reason}"
    if verdict.passed:
        return Completed(message=message, data=data)
    return Failed(name=NOT_PROMOTED, message=message, data=NotCompleted(message, data))


def told(verdict: Verdict) -> str:
    """What became of a model, in a line."""
    name = f"{verdict.name} version {verdict.version}"
    if not verdict.passed:
        stays = f"version {verdict.champion} stays it" if verdict.champion else "there is none"
        return f"{name} does not become the champion ({stays})"
    if not verdict.moved:
        return f"{name} is the champion already"
    before = f"in place of version {verdict.champion}" if verdict.champion else "the first"
    return f"{name} is the champion now, {before}"


def _row(check: Check) -> dict[str, Any]:
    def shown(number: Any) -> str:
        return "" if number is None else f"{number.mean:.4g} (seeds {list(number.seeds)})"

    return {
        "evaluation": check.evaluation,
        "metric": check.metric,
        "candidate": shown(check.candidate),
        "champion": shown(check.champion),
        "passed": "no" if check.failed else "yes",
        "why": check.failed,
    }
