"""What all forms share: fields for where to run, and how they look as a form."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, JsonValue
from pydantic.json_schema import SkipJsonSchema

from flows.executors import Queue, Where
from flows.request import Request
from sa3d.config.base import Frozen
from sa3d.utils import paths

Device = Literal["auto", "cpu", "cuda"]
Schema = dict[str, Any]

# above and below everything else in a form, in this order
FIRST: Final = ("model", "experiment", "variant", "variants", "data", "tasks")
LAST: Final = ("seeds", "settings", "where", "queue", "hours", "device", "offline", "strict", "out")


def ordered(names: Iterable[str]) -> list[str]:
    """Fields in the order of a form: what is run, what is changed in it, how."""
    found = list(names)
    middle = [name for name in found if name not in (*FIRST, *LAST)]
    return [name for name in (*FIRST, *middle, *LAST) if name in found]


def _as_form(schema: Schema) -> None:
    """What makes a settings class a form.

    A field that may be left empty is shown as its type alone: a choice between that type and
    "null" in front of each of them says nothing to a reader. The order is written down, as a
    database may change that of the keys.
    """
    properties = schema.get("properties", {})
    order = ordered(properties)
    for name, each in properties.items():
        kinds = [kind for kind in each.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del each["anyOf"]
            each |= kinds[0]
        if each.get("default", "") is None:
            del each["default"]
        if each.get("type") == "array":
            each["uniqueItems"] = True
        each["position"] = order.index(name)


class Form(Frozen):
    """What every flow asks for. Unknown fields are refused."""

    model_config = ConfigDict(json_schema_extra=_as_form)

    # what only a command line says
    params: SkipJsonSchema[Path | None] = Field(None, description="settings file")
    quiet: SkipJsonSchema[bool] = Field(False, description="show no progress")

    @property
    @abstractmethod
    def title(self) -> str:
        """The flow run's name: what differs from other runs."""


class RunningForm(Form):
    """A form of a flow that makes runs: where and how they are made, and any setting by its key."""

    settings: dict[str, JsonValue] = Field(
        {},
        description='any setting by its key, as with --set: {"pretrain.weight_decay": 0.1, '
        '"evaluate.svm.settings.folds": 5}; the keys are those of the experiment in params.yaml',
    )
    where: Where = Field(
        "here",
        description="here: beside the flow, on the GPUs or cores of its machine; workers: each "
        "run on a worker of the pool gpu, and once more if its process or worker dies. A run that "
        "fails by itself is not repeated",
    )
    queue: Queue = Field(
        "default", description="with workers: runs of the queue high go before all others"
    )
    hours: float | None = Field(
        None,
        gt=0.0,
        description="the longest that one run may take; it may then save, has failed, and goes on "
        "when the flow is started again; empty: no limit",
    )
    device: Device = Field("auto", description="what runs compute on; auto: GPUs where there are")
    offline: bool = Field(
        False, description="do without MLflow; `sa3d sync` sends it everything later"
    )
    strict: bool = Field(
        False, description="a run that is skipped, as its data is absent, counts as failed"
    )
    out: str = Field("", description="report folder; empty: one of its own in reports/")

    @abstractmethod
    def request(self) -> Request:
        """What is to be done.

        Raises:
            UserError: something that cannot be.
        """

    def file(self) -> Path:
        """The settings file."""
        return self.params or paths.params_file()

    def folder(self, name: str) -> Path:
        """Where the report is written."""
        return Path(self.out).resolve() if self.out else paths.root() / "reports" / name


def choices(names: Callable[[], Iterable[str]]) -> Callable[[Schema], None]:
    """For ``json_schema_extra``: a drop-down of names; of a list, one for each of its items.

    The names are asked for when the form is made, not when this module is imported. The form alone
    refuses other names: the flow itself says which are near.
    """
    return partial(_offer, names)


def _offer(names: Callable[[], Iterable[str]], schema: Schema) -> None:
    target = schema["items"] if schema.get("type") == "array" else schema
    target["enum"] = list(names())


def override(key: str, value: JsonValue) -> str:
    """A setting as ``--set`` takes it. A text is read as there: ``[1, 2]`` is a list."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def overrides(values: Mapping[str, JsonValue]) -> list[str]:
    """Settings as ``--set`` takes them."""
    return [override(key, value) for key, value in values.items()]


def titled(name: str, *changed: Mapping[str, Any]) -> str:
    """A name and what is changed, for a flow run: ``demo: mask_ratio=0.7, seeds=0+1``."""
    said = [
        f"{key}={_short(value)}"
        for values in changed
        for key, value in values.items()
        if value not in (None, "", (), [], {})
    ]
    return f"{name}: {', '.join(said)}" if said else name


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(_short(each) for each in value)
    return value if isinstance(value, str) else json.dumps(value)
