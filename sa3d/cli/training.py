"""``sa3d pretrain`` and one command for each downstream task of the registry."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sa3d import registry
from sa3d.cli.options import (
    Device,
    Experiment,
    Offline,
    Out,
    Params,
    Quiet,
    SeedNumber,
    Set,
    Threads,
    VariantName,
    Workers,
)
from sa3d.errors import UserError
from sa3d.runs.launch import Options, launch, locate_from, say

if TYPE_CHECKING:
    from sa3d.config.experiment import ExperimentConfig
    from sa3d.runs.config import RunConfig


def add_commands(app: typer.Typer) -> None:
    """Make the commands of every task."""
    app.command("pretrain")(pretrain)
    for name in registry.downstream():
        add_task(app, name)


def pretrain(
    experiment: Experiment = "demo",
    variant: VariantName = None,
    seed: SeedNumber = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Run folder of the knowledge teacher. [default: the variant's own, trained first "
            "if need be]",
        ),
    ] = None,
    params: Params = None,
    overrides: Set = None,
    quiet: Quiet = False,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = None,
    out: Out = None,
    offline: Offline = False,
) -> None:
    """Pre-train without labels."""
    from sa3d.runs.config import choose

    config = _experiment(experiment, params, overrides)
    run = choose(config, registry.PRETRAIN, variant=variant, seed=seed)
    if teacher is not None and not run.method.has_teacher:
        raise UserError(
            f"--teacher is for a method that distils one; {run.spec.variant} of '{config.name}' "
            f"is {run.method.method}"
        )
    options = Options(device, threads, quiet, overrides or (), workers)
    with contextlib.ExitStack() as stack:
        if run.spec.needs and teacher is None:
            from sa3d.engine.distributed import choose_device, processes

            stack.enter_context(processes(choose_device(device)))  # one group for both runs
            teacher = _teacher_of(config, run, options)
        launch(locate_from(config, run, {"teacher": teacher}), options, out)


def _teacher_of(config: ExperimentConfig, run: RunConfig, options: Options) -> Path:
    """The folder of the run's knowledge teacher, made now if need be."""
    from sa3d.runs.config import runs_of

    (spec,) = run.spec.needs
    before = next(each for each in runs_of(config) if each.spec == spec)
    own = _teacher_of(config, before, options) if before.spec.needs else None
    say(options.quiet, f"{run.spec.variant} distils {spec.variant}, which comes first")
    return launch(locate_from(config, before, {"teacher": own}), options)


def add_task(app: typer.Typer, name: str) -> None:
    """Make the command of a downstream task."""
    task = registry.task(name)

    @app.command(name, help=task.help)
    def command(
        experiment: Experiment = "demo",
        variant: VariantName = None,
        data: Annotated[
            str | None, typer.Option(help="Data set. [default: the first there is]")
        ] = None,
        label: Annotated[
            str | None, typer.Option(help="Label of the evaluation, where it has one.")
        ] = None,
        seed: SeedNumber = None,
        fold: Annotated[int | None, typer.Option(min=0, help="Fold, from 0.")] = None,
        start: Annotated[
            Path | None,
            typer.Option(
                "--from",
                help="Run folder of a pre-training. [default: the variant's own, which must have "
                "been made]",
            ),
        ] = None,
        params: Params = None,
        overrides: Set = None,
        quiet: Quiet = False,
        device: Device = "auto",
        threads: Threads = None,
        out: Out = None,
        offline: Offline = False,
    ) -> None:
        from sa3d.runs.config import choose

        config = _experiment(experiment, params, overrides)
        run = choose(config, name, variant=variant, data=data, label=label, seed=seed, fold=fold)
        if start is not None and run.spec.start is None:
            raise UserError(
                f"--from {start}: variant {run.spec.variant} starts from random weights; give "
                "another --variant"
            )
        options = Options(device, threads, quiet, overrides or ())
        launch(locate_from(config, run, {"start": start}), options, out)


def _experiment(name: str, params: Path | None, overrides: list[str] | None) -> ExperimentConfig:
    from sa3d.config.loading import load_experiment, require_data

    config = load_experiment(name, params, overrides or ())
    require_data(config, params)
    return config
