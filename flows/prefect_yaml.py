"""``python -m flows.prefect_yaml``: ``prefect.yaml``, written from the forms and ``params.yaml``.

The forms' own defaults are not written again: a deployment says only what a form cannot know,
which is where to begin in the drop-downs. ``make check`` (``--check``) finds a file that no longer
fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from flows.command_line import Command, plain_app, write_or_check
from flows.forms.ablation import AblationForm
from flows.forms.base import Form
from flows.forms.evaluate import EvaluateForm
from flows.forms.experiment import ExperimentForm
from flows.forms.pretrain import PretrainForm
from flows.forms.promote import PromoteForm
from sa3d.config.loading import experiment_names, load_experiment
from sa3d.errors import ConfigError

FILE: Final = Path("prefect.yaml")
WRITE: Final = "python -m flows.prefect_yaml"
HEADER: Final = f"""\
# What can be started from Prefect's page: Deployments, choose one, Run. docs/flows.md shows each.
#   prefect --no-prompt deploy --all    renew them; `python -m flows.stack up` does so too
#
# Written from the forms (flows/forms/) and params.yaml by `{WRITE}`. A form's
# drop-downs are made when it is deployed: deploy again after a change of params.yaml.
#
# A worker finds the project by its own variable SA3D_ROOT.
"""
ORCHESTRATOR: Final = {"name": "orchestrator", "work_queue_name": "default"}
GPU: Final = {"name": "gpu", "work_queue_name": "default"}


@dataclass(frozen=True)
class Deployment:
    """A flow that people start.

    Attributes:
        form: what it asks for.
        click: what to do on its page.
        tags: to find its runs by.
    """

    form: type[Form]
    click: str
    tags: tuple[str, ...]


DEPLOYMENTS: Final[Mapping[str, Deployment]] = {
    "experiment": Deployment(
        ExperimentForm,
        "Run, Custom run: choose an experiment, change what you want to change, Submit. What is "
        "left empty is as in params.yaml, and what is finished is not run again.",
        ("sa3d",),
    ),
    "pretrain": Deployment(
        PretrainForm,
        "Run, Custom run: choose an experiment and one of its variants, Submit. Each model becomes "
        "a version in MLflow's registry.",
        ("sa3d",),
    ),
    "evaluate": Deployment(
        EvaluateForm,
        "Run, Custom run: name a model, as models:/sa3d-demo-sa3df@candidate, or a folder; choose "
        "tasks, Submit.",
        ("sa3d",),
    ),
    "ablation": Deployment(
        AblationForm,
        "Run, Custom run: choose an experiment; give values of mask ratio, mask strategy, end "
        "ratio or any other setting; Submit. Every combination is run.",
        ("sa3d",),
    ),
    "promote": Deployment(
        PromoteForm,
        "Run, Custom run: choose a model, Submit. It becomes the champion if it keeps the rules of "
        "`gate` in params.yaml; the run page says why, or why not.",
        ("sa3d", "registry"),
    ),
}

app = plain_app()


@app.command(cls=Command)
def command(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit status 2: it would change.")
    ] = False,
) -> None:
    """Write prefect.yaml in this folder from the forms and params.yaml."""
    write_or_check(FILE, prefect_yaml(), WRITE, check=check)


def prefect_yaml() -> str:
    """The text of ``prefect.yaml``.

    Raises:
        ConfigError: a settings file that cannot be read, or has no experiment.
    """
    found = [_deployment(name, each) for name, each in DEPLOYMENTS.items()]
    found.append(
        {
            "name": "gpu",
            "description": "One run of an experiment, on the worker that takes it. Started by the "
            "other flows, not by people.",
            "entrypoint": "flows.job.job",
            "tags": ["sa3d"],
            "work_pool": dict(GPU),
        }
    )
    tree = {
        "name": "sa3d",
        "pull": [
            {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $SA3D_ROOT }}"}}
        ],
        "deployments": found,
    }
    return HEADER + yaml.dump(tree, Dumper=_Plain, sort_keys=False, width=200)


class _Plain(yaml.SafeDumper):
    """Writes what stands twice twice, instead of referring to it, and lines of text as lines."""

    def ignore_aliases(self, data: Any) -> bool:
        """See the base class."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _text)


def _deployment(name: str, each: Deployment) -> dict[str, Any]:
    return {
        "name": name,
        "description": _description(each),
        "entrypoint": f"flows.deployed.{name}",
        "tags": list(each.tags),
        "parameters": {"request": begin(each.form)},
        "work_pool": dict(ORCHESTRATOR),
    }


def _description(each: Deployment) -> str:
    if each.form is not ExperimentForm:
        return each.click
    table = experiments_table()
    return f"{each.click}\n\nThe experiments, and what their reference says:\n\n{table}\n"


def begin(form: type[Form]) -> dict[str, Any]:
    """What stands in the drop-downs at first: the first experiment, and its reference's model.

    Raises:
        ConfigError: there is none.
    """
    names = experiment_names()
    if not names:
        raise ConfigError("params.yaml has no experiment")
    first = load_experiment(names[0])
    model = f"sa3d-{first.name}-{first.reference}"
    values = {
        "experiment": first.name,
        "model": f"models:/{model}@candidate" if form is EvaluateForm else model,
    }
    required = [name for name, facts in form.model_fields.items() if facts.is_required()]
    return {name: values[name] for name in required}


def experiments_table() -> str:
    """What params.yaml says of every experiment, as a table in Markdown."""
    lines = [
        "| experiment | what it is | mask ratio | epochs | learning rate | batch size | variants |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in experiment_names():
        config = load_experiment(name)
        method = config.methods.get(config.reference)
        shown = (
            [""] * 4
            if method is None
            else [
                str(method.mask_ratio or f"{method.masked} patches"),
                *(f"{value:g}" for value in (method.epochs, method.lr, method.batch_size)),
            ]
        )
        cells = [name, config.description, *shown, ", ".join(config.variants)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    app(prog_name=WRITE)
