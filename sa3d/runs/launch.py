"""Making a run: found done, resumed or begun, on the device that was asked for."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sa3d import registry
from sa3d.checkpoints.card import find_model
from sa3d.config.experiment import ExperimentConfig
from sa3d.errors import TrainingError, UserError
from sa3d.runs import naming
from sa3d.runs.config import RunConfig, runs_of
from sa3d.runs.fingerprint import Located, digest_of, finished, locate, require_planned
from sa3d.runs.spec import RunSpec
from sa3d.utils import paths

if TYPE_CHECKING:
    import torch

    from sa3d.engine.distributed import Processes
    from sa3d.runs.context import RunContext
    from sa3d.tracking.data_sets import DataUse

RESULT_NEUTRAL: Final = True


class NotMadeError(UserError):
    """A run that another one starts from was not made yet."""


@dataclass(frozen=True)
class Options:
    """How to make a run.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads; None: torch's choice.
        quiet: no progress line, no summary.
        overrides: what ``--set`` gave, for the record.
        workers: processes that make the clouds of an endless data set; None: as the device needs.
    """

    device: str = "auto"
    threads: int | None = None
    quiet: bool = False
    overrides: Sequence[str] = ()
    workers: int | None = None


def launch(located: Located, options: Options, folder: Path | None = None) -> Path:
    """Make a run in its folder, or find it done there.

    Args:
        located: the run, and the models that it starts from.
        options: how.
        folder: instead of the run's own.

    Returns:
        The folder.

    Raises:
        UserError: and its subclasses, for whatever the user can mend.
        SystemExit: the run was asked to stop and has saved.
    """
    folder = (folder or located.folder).resolve()
    require_planned(located.fingerprint)
    done = finished(folder, located.fingerprint)
    if done is not None:
        return _reuse(done, folder, options.quiet)

    import torch

    from sa3d.engine.distributed import choose_device, processes
    from sa3d.engine.signals import Stopped
    from sa3d.runs.context import RunContext
    from sa3d.runs.lock import locked
    from sa3d.runs.result import read_summary

    run = located.run
    read_summary(located.clouds)  # the result states it; a damaged one is better refused now
    if not run.task.processes and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"sa3d {run.spec.task} runs in one process; start it without torchrun")
    device = choose_device(options.device)
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(processes(device))
        stack.enter_context(locked(folder, group))
        # another process may have made it while this one waited for the lock
        done = finished(folder, located.fingerprint)
        if group.any(group.main and done is not None)[0]:
            return _reuse(done or {}, folder, options.quiet)
        tracker = stack.enter_context(_tracking(folder, located, group, options))
        _tune(device, options, tracker, group)
        context = RunContext(
            folder=folder,
            fingerprint=located.fingerprint,
            device=device,
            tracker=tracker,
            clouds=located.clouds,
            start=located.start and find_model(located.start),
            teacher=located.teacher and find_model(located.teacher),
            quiet=options.quiet,
            processes=group,
            workers=options.workers,
        )
        try:
            registry.load_at(run.task.run)(run, context)
            if group.main:
                _draw(context)
            # the others must not go on to what the main process still exports
            group.wait()
        except Stopped as stop:
            say(options.quiet, f"{stop}; the same command goes on from here")
            sys.exit(stop.exit_code)
        except torch.OutOfMemoryError:
            raise TrainingError(f"{device} is out of memory; lower batch_size") from None
    if group.main:
        result = finished(folder, located.fingerprint)
        assert result is not None, "a run that ended well leaves its result"
        _summarise(result, folder, options.quiet)
    return folder


def locate_from(
    config: ExperimentConfig,
    run: RunConfig,
    given: Mapping[str, Path | None] | None = None,
) -> Located:
    """A run with the models that it starts from, which must have been made.

    Args:
        config: the experiment.
        run: one of its runs.
        given: ``start`` and ``teacher``, where they are not those of the experiment.

    Raises:
        NotMadeError: a model that it needs was not made yet; with the command that makes it.
    """
    given = given or {}
    start = given.get("start") or _made(config, run.spec.start)
    teacher = given.get("teacher") or _made(config, run.spec.teacher)
    return locate(run, start=start, teacher=teacher)


def _made(config: ExperimentConfig, source: RunSpec | str | None) -> Path | None:
    """The folder of a model that a run starts from."""
    if source is None:
        return None
    if isinstance(source, str):
        return find_model(Path(source)).resolve()
    run = next(each for each in runs_of(config) if each.spec == source)
    with contextlib.suppress(NotMadeError):  # of its teacher: the command below makes both
        located = locate_from(config, run)
        if finished(located.folder, located.fingerprint) is not None:
            return located.folder
    words = ["sa3d", registry.PRETRAIN, "-e", config.name]
    words += ["--variant", source.variant, "--seed", str(source.seed)]
    raise NotMadeError(
        f"{source.name} was not made yet; run first, with the same --params and --set: "
        f"{shlex.join(words)}"
    )


@contextlib.contextmanager
def _tracking(folder: Path, located: Located, group: Processes, options: Options) -> Iterator[Any]:
    """The run's tracker in the main process; one that records nothing elsewhere."""
    from sa3d.tracking.journal import NullTracker

    if not group.main:
        yield NullTracker()
        return
    import point_ops  # noqa: F401  (loaded, so that the run's tags name its kernels)

    from sa3d.runs.tags import run_tags
    from sa3d.tracking.tracker import open_tracker

    run = located.run
    differing = naming.changed(run)
    with open_tracker(
        folder,
        experiment=f"sa3d/{run.spec.task}",
        run_name=naming.name(f"{run.experiment}-{run.spec.short}", differing),
        tags=run_tags(located) | _labels(located, differing),
        command=naming.command(located, options.overrides),
        description=naming.description(run, differing),
        data=_data_sets(located),
        system=True,
    ) as tracker:
        yield tracker


def _draw(context: RunContext) -> None:
    """Pictures for the run's page in MLflow. The run is finished by now, whatever becomes of
    them."""
    from sa3d.runs import pictures

    try:
        result = finished(context.folder, context.fingerprint)
        assert result is not None, "a run that ended well leaves its result"
        drawn = pictures.draw(context.folder, result)
    except Exception as error:
        print(f"no pictures of this run: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return
    if drawn is not None:
        context.tracker.artifact(drawn)


def _labels(located: Located, differing: Mapping[str, Any]) -> dict[str, str]:
    """Labels by which people find a run: what differs, and the MLflow run of its encoder."""
    from sa3d.tracking import mlflow_sync

    found = {naming.PARAMS: paths.shown(naming.settings_file().resolve())}
    if differing:
        found["changed"] = ", ".join(f"{key}={value}" for key, value in differing.items())
    before = None if located.start is None else mlflow_sync.run_of(located.start)
    if before is not None:
        found["encoder.run_id"] = before.run_id
    return found


def _data_sets(located: Located) -> list[DataUse]:
    """What a run reads: training clouds, and test clouds where it evaluates."""
    from sa3d.tracking.data_sets import USES, DataUse

    run = located.run
    clouds = located.clouds if run.data.endless is None else None
    digest, facts = digest_of(run.data), {"points": run.data.points}
    uses = USES[:1] if run.spec.task == registry.PRETRAIN else USES
    return [DataUse(run.data.name, part, why, digest, clouds, facts) for part, why in uses]


def _tune(device: torch.device, options: Options, tracker: Any, group: Processes) -> None:
    import torch

    from sa3d.engine.tune import configure_cpu

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if device.type == "cpu":
        tuning = configure_cpu().describe()
        tracker.tags({"cpu": f"{torch.get_num_threads()} threads; {tuning}"})
        if group.main:
            say(options.quiet, f"cpu: {torch.get_num_threads()} threads; {tuning}")


def _reuse(result: Mapping[str, Any], folder: Path, quiet: bool) -> Path:
    say(quiet, f"already done: {folder}")
    _summarise(result, folder, quiet)
    return folder


def _summarise(result: Mapping[str, Any], folder: Path, quiet: bool) -> None:
    for name, value in sorted(result.get("metrics", {}).items()):
        say(quiet, f"{name:28} {value:.6g}")
    say(quiet, str(folder))


def say(quiet: bool, text: str) -> None:
    """Tell the user, once for all processes of a run."""
    if not quiet and os.environ.get("RANK", "0") == "0":
        print(text, flush=True)  # noqa: T201 - what the command line shows
