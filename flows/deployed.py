"""The flows as Prefect deploys them, each with its form as the one parameter.

Annotations here are classes and no texts: a worker loads this file as a script of another name,
where Prefect could not look up what a text means.
"""

from typing import Any, Final

from prefect import Flow, flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.endings import say_once
from flows.forms.ablation import AblationForm
from flows.forms.evaluate import EvaluateForm
from flows.forms.experiment import ExperimentForm
from flows.forms.pretrain import PretrainForm
from flows.forms.promote import PromoteForm
from flows.hooks import cancel_children
from flows.pipeline import carry_out
from flows.promotion import decide

say_once()

# tasks at once; they only wait, the executor decides how many compute
_RUNNER = ThreadPoolTaskRunner[PrefectFuture[Any]](max_workers=64)
_HOW: Final[dict[str, Any]] = {
    "flow_run_name": "{request.title}",
    "on_cancellation": [cancel_children],
    "on_crashed": [cancel_children],
    "task_runner": _RUNNER,
}


@flow(name="experiment", **_HOW)
def experiment(request: ExperimentForm) -> State[Any]:
    """An experiment of params.yaml, with what is changed in it, to its report."""
    return carry_out(request)


@flow(name="pretrain", **_HOW)
def pretrain(request: PretrainForm) -> State[Any]:
    """One variant of an experiment, pre-trained for several seeds and registered."""
    return carry_out(request)


@flow(name="evaluate", **_HOW)
def evaluate(request: EvaluateForm) -> State[Any]:
    """Downstream tasks on an encoder that is registered, or in a folder."""
    return carry_out(request)


@flow(name="ablation", **_HOW)
def ablation(request: AblationForm) -> State[Any]:
    """A grid over settings of one variant, compared in one table and one figure."""
    return carry_out(request)


@flow(name="promote", **_HOW)
def promote(request: PromoteForm) -> State[Any]:
    """The gate of params.yaml decides whether a model becomes the champion."""
    return decide(request)


FLOWS: Final[dict[str, Flow[..., Any]]] = {
    each.name: each for each in (experiment, pretrain, evaluate, ablation, promote)
}
