"""The form of ``evaluate``: downstream tasks on an encoder that is there already."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from flows.forms import available
from flows.forms.base import RunningForm, choices, overrides, titled
from flows.forms.models import Encoder, encoder
from flows.forms.narrow import require
from flows.request import Cell, Request
from sa3d.config.base import Seed
from sa3d.config.experiment import ExperimentConfig
from sa3d.config.explain import explained
from sa3d.config.loading import experiment_names, load_experiment, require_data
from sa3d.errors import ConfigError

SCRATCH = "scratch"  # as in params.yaml, so that its runs are found again


class EvaluateForm(RunningForm):
    """Evaluate an encoder that is there: a registered model, or a folder with an exported one."""

    model: str = Field(
        min_length=1,
        description="models:/NAME@ALIAS or models:/NAME/VERSION of the registry, or a folder (a "
        "pre-training in work/, or what `sa3d convert` wrote)",
    )
    experiment: str | None = Field(
        None,
        description="whose evaluations, with their data and settings; empty: those of the "
        "experiment that the model was pre-trained in",
        json_schema_extra=choices(available.experiments),
    )
    tasks: tuple[str, ...] = Field(
        (),
        description="which of them; empty: all",
        json_schema_extra=choices(available.tasks),
    )
    data: str | None = Field(
        None,
        description="data set instead of that of each evaluation",
        json_schema_extra=choices(available.datasets),
    )
    scratch: bool = Field(False, description="compare with the same encoder with random weights")
    seeds: tuple[Seed, ...] = Field((), description="a run each; empty: those of each evaluation")

    @property
    def title(self) -> str:
        """The flow run's name: what differs from other runs."""
        name = self.model.removeprefix("models:/")
        return titled(
            name,
            {"tasks": self.tasks, "data": self.data, "seeds": self.seeds},
            {"experiment": self.experiment},
            self.settings,
        )

    def request(self) -> Request:
        """What is to be done.

        Raises:
            ConfigError: a name, key or value that is not possible, or data that nothing makes.
            CheckpointError: no such encoder. UserError: the registry has no such model.
        """
        file = self.file()
        found = encoder(self.model)
        base = load_experiment(self._template(found), file, overrides(self.settings))
        for task in self.tasks:
            has = list(dict.fromkeys(each.task for each in base.evaluate))
            require("evaluation by task", task, has, base.name)
        name = f"evaluate-{found.name}"
        tree = self._tree(base, found) | {"name": name, "description": f"of {self.model}"}
        try:
            config = ExperimentConfig.model_validate(tree)
        except ValidationError as error:
            said = explained(error, tree, tree, f"evaluating {self.model}: experiments.{base.name}")
            raise ConfigError(said.text) from None
        require_data(config, file)
        return Request(name, (Cell(config),), self.folder(name))

    def _template(self, found: Encoder) -> str:
        known = experiment_names(self.file())
        name = self.experiment or found.card.get("experiment")
        if name is None or (self.experiment is None and name not in known):
            raise ConfigError(
                f"experiment: say whose evaluations are wanted, of {', '.join(known)}; the model "
                "does not come from one of them"
            )
        return str(name)

    def _tree(self, base: ExperimentConfig, found: Encoder) -> dict[str, Any]:
        """The experiment's evaluations, of this encoder alone."""
        tree = base.model_dump(mode="json")
        before, model = tree["model"], found.card["model"]
        variants: dict[str, Any] = {found.variant: {"checkpoint": str(found.folder)}}
        if self.scratch:
            free = SCRATCH if found.variant != SCRATCH else "random-weights"
            variants[free] = {"scratch": True}
        evaluate: dict[tuple[str, str, str], Any] = {}
        for each in tree["evaluate"]:
            if self.tasks and each["task"] not in self.tasks:
                continue
            own: dict[str, Any] = {}
            if each["model"]["backbone"] == model.get("backbone"):  # what it groups otherwise
                own = {k: v for k, v in each["model"].items() if before.get(k) != v}
            data = each["data"] | ({"name": self.data} if self.data else {})
            each |= {"model": model | own, "data": data, "variants": list(variants)}
            if self.seeds:
                each["seeds"] = list(self.seeds)
            # on one data set, two evaluations may be the same
            evaluate.setdefault((each["task"], each["label"], data["name"]), each)
        if not evaluate:
            raise ConfigError(f"experiment '{base.name}' evaluates nothing; choose another one")
        return tree | {
            "model": model,
            "pretrain": None,
            "variants": variants,
            "reference": found.variant,
            "evaluate": list(evaluate.values()),
            "seeds": list(self.seeds) or tree["seeds"],
        }
