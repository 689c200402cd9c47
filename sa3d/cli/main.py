"""``sa3d``: the command line, a thin face over :mod:`sa3d.tasks`.

Heavy imports happen inside the commands, so that ``--help`` answers at once. A
:class:`~sa3d.errors.UserError` is printed alone and exits with 2; SIGTERM and Ctrl-C exit with
143 and 130, training having saved where it stood.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sa3d.errors import TrainingError, UserError
from sa3d.registry import TASKS, downstream

if TYPE_CHECKING:
    import torch

    from sa3d.config.experiment import ExperimentConfig
    from sa3d.engine.distributed import Processes
    from sa3d.runs.context import Arm


class _Commands(TyperGroup):
    """Turns what ends a command early into a message and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            print(f"sa3d: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(130)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich costs a third of a second
    help="Masked autoencoders on point clouds that mask the geometrically hard patches first.",
)
data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Make and check processed data sets."
)
app.add_typer(data_app, name="data")

Experiment = Annotated[
    str, typer.Option("--experiment", "-e", help="Name under `experiments` in params.yaml.")
]
Params = Annotated[
    Path | None, typer.Option("--params", help="Settings file. [default: params.yaml]")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads. [default: torch's choice]")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Run folder. [default: work/TASK-ARM-FINGERPRINT]"),
]
From = Annotated[
    str,
    typer.Option("--from", help="Run folder of a pre-training, or `scratch`: random weights."),
]


@dataclass(frozen=True)
class _Options:
    """The options that every training command shares."""

    experiment: str
    params: Path | None
    overrides: list[str] | None
    quiet: bool
    device: str
    threads: int | None
    out: Path | None

    def config(self) -> ExperimentConfig:
        from sa3d.config.loading import load_experiment, require_data

        found = load_experiment(self.experiment, self.params, self.overrides or ())
        require_data(found, self.params)
        return found


@app.command()
def pretrain(
    experiment: Experiment = "demo",
    arm: Annotated[
        str, typer.Option("--arm", help="`method`, or `baseline`: random masks.")
    ] = "method",
    knowledge_teacher: Annotated[
        Path | None,
        typer.Option(
            "--knowledge-teacher",
            help="Run folder of the model that sa3df distils. [default: the baseline, trained "
            "first if need be]",
        ),
    ] = None,
    params: Params = None,
    overrides: Set = None,
    quiet: Quiet = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Out = None,
) -> None:
    """Pre-train without labels."""
    options = _Options(experiment, params, overrides, quiet, device, threads, out)
    config = options.config()
    if arm not in ("method", "baseline"):
        raise UserError(f"--arm {arm}: use method or baseline")
    if arm == "baseline" and config.baseline is None:
        raise UserError(f"experiment '{config.name}' has no baseline; use --arm method")
    wanted = config.stage(arm).method == "sa3df"
    if knowledge_teacher is not None and not wanted:
        raise UserError(
            f"--knowledge-teacher is for sa3df; {arm} of '{config.name}' is "
            f"{config.stage(arm).method}"
        )
    with contextlib.ExitStack() as stack:
        if wanted and knowledge_teacher is None:
            from sa3d.engine.distributed import choose_device, processes

            stack.enter_context(processes(choose_device(device)))  # one group for both runs
            _say(quiet, "sa3df distils a plain model: the baseline comes first")
            knowledge_teacher = _launch("pretrain", config, replace(options, out=None), "baseline")
        _launch("pretrain", config, options, arm, knowledge_teacher=knowledge_teacher)


def add_task(name: str) -> None:
    """Make a command of a downstream task of the registry."""

    @app.command(name, help=TASKS[name].help)
    def task(
        source: From,
        experiment: Experiment = "demo",
        params: Params = None,
        overrides: Set = None,
        quiet: Quiet = False,
        device: Device = "auto",
        threads: Threads = None,
        out: Out = None,
    ) -> None:
        _downstream(
            name, _Options(experiment, params, overrides, quiet, device, threads, out), source
        )


for _name in downstream():
    add_task(_name)


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="Name under `datasets` in params.yaml.")],
    params: Params = None,
    overrides: Set = None,
    quiet: Quiet = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder. [default: data/processed]")
    ] = None,
) -> None:
    """Make the processed file of a data set from its raw source."""
    from sa3d.config.loading import load_source
    from sa3d.data.prepare import prepare
    from sa3d.utils.paths import processed

    source = load_source(name, params, overrides or ())
    file = out / f"{name}.h5" if out is not None else processed(name)
    _say(quiet, str(prepare(name, source, file, quiet=quiet)))


@data_app.command("check")
def data_check(
    name: Annotated[
        str | None, typer.Argument(help="Name under `datasets`; all of them without it.")
    ] = None,
    params: Params = None,
    overrides: Set = None,
) -> None:
    """Say what each data set needs, whether it is there and whether it is whole."""
    from sa3d.config.loading import load_source, source_names
    from sa3d.data.prepare import check
    from sa3d.utils.paths import processed

    good = True
    for each in [name] if name is not None else source_names(params):
        found = check(each, load_source(each, params, overrides or ()), processed(each))
        print(found)
        good = good and found.processed
    if name is not None and not good:  # of all of them, those that nobody asked for may lack
        sys.exit(2)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="results.json of an experiment.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder. [default: that of results.json]")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write the report of an experiment: report.html, report.md, figures."""
    from sa3d.report import write_report

    _say(quiet, str(write_report(results, out or results.parent)))


@app.command()
def doctor(device: Device = "auto", threads: Threads = None) -> None:
    """Show what this machine offers and how it is set up."""
    from sa3d.cli.doctor import examine

    findings = examine(device, threads)
    for finding in findings:
        print(f"{'' if finding.ok else 'PROBLEM  '}{finding.name}: {finding.value}")
    if not all(finding.ok for finding in findings):
        sys.exit(2)


@app.command()
def sync(
    run_dir: Annotated[Path, typer.Argument(help="Run folder with a journal.jsonl.")],
    quiet: Quiet = False,
) -> None:
    """Send to MLflow what it lacks of a run."""
    from sa3d.tracking.tracker import sync as send

    _say(quiet, f"{send(run_dir)} points sent")


# --- running a task ----------------------------------------------------------------------


def _downstream(task: str, options: _Options, source: str) -> None:
    from sa3d.runs.fingerprint import model_card

    config = options.config()
    if source == "scratch":
        _launch(task, config, options, "scratch")
        return
    arm = str(model_card(Path(source)).get("arm", "method"))
    _launch(task, config, options, arm, init=Path(source))


def _launch(
    task: str,
    config: ExperimentConfig,
    options: _Options,
    arm: str,
    *,
    init: Path | None = None,
    knowledge_teacher: Path | None = None,
) -> Path:
    """Run a task in its folder, or find it done there; the folder."""
    from sa3d.runs.fingerprint import find_model, fingerprint, is_done
    from sa3d.utils.paths import processed, work

    clouds = processed(config.data.name)
    init = init and find_model(init).resolve()
    knowledge_teacher = knowledge_teacher and find_model(knowledge_teacher).resolve()
    mark = fingerprint(
        task, config, arm=arm, clouds=clouds, init=init, knowledge_teacher=knowledge_teacher
    )
    run_dir = (options.out or work() / f"{task}-{arm}-{mark}").resolve()
    if is_done(run_dir, mark):
        return _reuse(run_dir, options.quiet)

    import torch

    from sa3d.engine.distributed import choose_device, processes
    from sa3d.engine.signals import Stopped
    from sa3d.registry import load
    from sa3d.runs.context import RunContext, locked

    section = arm if arm == "baseline" and task == "pretrain" else task
    device = choose_device(options.device)
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(processes(device))
        stack.enter_context(locked(run_dir, group))
        # another process may have made it while this one waited for the lock
        if group.any(group.main and is_done(run_dir, mark))[0]:
            return _reuse(run_dir, options.quiet)
        tracker = stack.enter_context(_tracking(run_dir, task, arm, mark, config, group))
        _tune(device, options, tracker, group)
        run = RunContext(
            run_dir=run_dir,
            fingerprint=mark,
            device=device,
            tracker=tracker,
            arm=_arm(arm),
            clouds_path=clouds,
            init=init,
            knowledge_teacher=knowledge_teacher,
            quiet=options.quiet,
            processes=group,
        )
        try:
            load(TASKS, "task", task)(config, run)
            # the others must not go on to what the main process still exports
            group.wait()
        except Stopped as stop:
            _say(options.quiet, f"{stop}; the same command goes on from here")
            sys.exit(stop.exit_code)
        except torch.OutOfMemoryError:
            raise TrainingError(f"{device} is out of memory; lower {section}.batch_size") from None
    if group.main:
        _summarise(run_dir, options.quiet)
    return run_dir


@contextlib.contextmanager
def _tracking(
    run_dir: Path, task: str, arm: str, mark: str, config: ExperimentConfig, group: Processes
) -> Iterator[Any]:
    """The run's tracker in the main process; one that does nothing elsewhere."""
    from sa3d.tracking.journal import NullTracker

    if not group.main:
        yield NullTracker()
        return
    import point_ops  # noqa: F401  (loaded, so that the run's tags name its kernels)

    from sa3d.tracking.tracker import open_tracker

    tags = {
        "stage": task,
        "arm": arm,
        "experiment": config.name,
        "seed": str(config.seed),
        "fingerprint": mark,
        "data": config.data.name,
        "encoder": config.model.backbone,
    }
    name = f"{config.name}-{arm}"
    experiment = f"sa3d/{task}"
    with open_tracker(run_dir, experiment=experiment, run_name=name, tags=tags) as tracker:
        yield tracker


def _tune(device: torch.device, options: _Options, tracker: Any, group: Processes) -> None:
    import torch

    from sa3d.engine.tune import configure_cpu

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if device.type == "cpu":
        tuning = configure_cpu().describe()
        tracker.tags({"cpu": f"{torch.get_num_threads()} threads; {tuning}"})
        if group.main:
            _say(options.quiet, f"cpu: {torch.get_num_threads()} threads; {tuning}")


def _reuse(run_dir: Path, quiet: bool) -> Path:
    _say(quiet, f"already done: {run_dir}")
    _summarise(run_dir, quiet)
    return run_dir


def _summarise(run_dir: Path, quiet: bool) -> None:
    from sa3d.utils.paths import RESULT

    result = json.loads((run_dir / RESULT).read_text(encoding="utf-8"))
    for name, value in sorted(result["metrics"].items()):
        _say(quiet, f"{name:28} {value:.6g}")
    _say(quiet, str(run_dir))


def _arm(name: str) -> Arm:
    if name not in ("method", "baseline", "scratch"):
        raise UserError(f"unknown arm '{name}' in the model's description")
    return name  # type: ignore[return-value]


def _say(quiet: bool, text: str) -> None:
    if not quiet and os.environ.get("RANK", "0") == "0":
        print(text, flush=True)


def main() -> None:
    """Entry point of ``sa3d`` and ``python -m sa3d``."""
    # outside of training, which has a handler of its own that saves first
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    app(prog_name="sa3d")


if __name__ == "__main__":
    main()
