"""A project with many finished runs, and what its parts cost: for ``benchmarks/growth.py``.

    python benchmarks/growth_runs.py FOLDER 100

prints, as JSON, seconds and opened files of every part that a flow goes through when 100
evaluations are there already. The first call in a folder makes one small experiment by the real
commands; its evaluations are then copied under the names and fingerprints that the program asks
for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE = Path(__file__).resolve().parent
if __package__ is None:  # run as a script
    import from_root  # noqa: F401

NAME: Final = "growth"
SETTINGS: Final = """
datasets:
  shapes: {{source: shapes, seed: 0, shapes_per_class: 8, points: 128, test_fraction: 0.4}}
experiments:
  growth:
    seeds: [0]
    model: {{groups: 8, group_size: 8, dim: 24, depth: 2, heads: 2, decoder_depth: 1}}
    pretrain:
      {{data: {{name: shapes, points: 64, val_fraction: 0.3}}, mask_ratio: 0.5, epochs: 2,
       batch_size: 16, lr: 1.0e-3}}
    variants:
      random-masks: {{method: mae, mask: random}}
      scratch: {{scratch: true}}
    reference: random-masks
    evaluate:
      - {{task: svm, seeds: {seeds}, settings: {{folds: 2}}}}
"""
VARIANTS: Final = 2


class Cost(NamedTuple):
    """Of one part."""

    seconds: float
    opened: int


@dataclass
class Counter:
    """Files that this process opens, by the event that Python itself raises for each."""

    opened: int = 0
    on: bool = False

    def __post_init__(self) -> None:
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "open":
            self.opened += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        self.opened, self.on = 0, True
        try:
            yield
        finally:
            self.on = False


def environment(folder: Path) -> dict[str, str]:
    """Of a process that works on the project alone."""
    dropped = ("DVC_ROOT", "SA3D_WORK", "SA3D_PARAMS", "MLFLOW_TRACKING_URI", "PREFECT_API_URL")
    env = {key: value for key, value in os.environ.items() if key not in dropped}
    code = os.pathsep.join(filter(None, (str(HERE.parent), env.get("PYTHONPATH", ""))))
    return env | {"SA3D_ROOT": str(folder), "PYTHONPATH": code}


def write_settings(folder: Path, evaluations: int) -> None:
    seeds = list(range(max(1, evaluations // VARIANTS)))
    (folder / "params.yaml").write_text(SETTINGS.format(seeds=seeds))


def begin(folder: Path) -> None:
    """Data, one pre-training and one evaluation of each variant, by the commands of a user."""
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(folder, VARIANTS)
    for words in (
        ["sa3d", "data", "prepare", "shapes"],
        ["flows.experiment", NAME, "--device", "cpu", "--quiet"],
    ):
        subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True)


def located_runs(config: Any) -> list[Any]:
    """Every run of the experiment with its fingerprint and folder."""
    from sa3d.runs.config import runs_of
    from sa3d.runs.fingerprint import locate

    found: dict[Any, Any] = {}
    for run in runs_of(config):
        start = found[run.spec.start].folder if run.spec.start is not None else None
        found[run.spec] = locate(run, start=start)
    return list(found.values())


def fill(config: Any) -> None:
    """Copy the first evaluation of each variant to where the others will be looked for."""
    first: dict[str, Any] = {}
    for located in located_runs(config):
        spec = located.run.spec
        source = first.setdefault(f"{spec.task} {spec.variant}", located)
        if located.folder.is_dir():
            continue
        shutil.copytree(source.folder, located.folder)
        for name in ("config.json", "result.json"):
            tree = json.loads((located.folder / name).read_text())
            tree["fingerprint"], tree["spec"] = located.fingerprint, spec.as_json()
            (located.folder / name).write_text(json.dumps(tree, indent=2))


def measured(counter: Counter, make: Callable[[], Any]) -> tuple[Any, Cost]:
    """What ``make`` returns, and what it cost."""
    with counter.counting():
        began = time.perf_counter()
        made = make()
        spent = time.perf_counter() - began
    return made, Cost(spent, counter.opened)


def flow(counter: Counter, config: Any, out: Path) -> dict[str, Cost]:
    """The parts of a flow that finds every run finished, without Prefect, in their order."""
    from flows.executors.base import Job
    from flows.executors.local import LocalExecutor
    from flows.outcome import write_results
    from flows.plan import plan
    from flows.resources import Resources
    from flows.scheduler import Scheduler
    from flows.settings import command, settle
    from flows.status_table import StatusTable
    from sa3d.runs.fingerprint import finished, locate

    steps, planned = measured(counter, lambda: plan(config, register=False))
    settings, checked = measured(counter, lambda: settle(config))
    table = StatusTable(steps.nodes, NAME, quiet=True)

    def schedule() -> None:
        scheduler, executor = Scheduler(steps), LocalExecutor(Resources("cpu", 2))
        while not scheduler.ended:
            for name in scheduler.ready():
                node, status = steps.by_name[name], table.statuses[name]
                scheduler.queued(name)
                start = table.statuses[node.needs[0]].run_dir if node.needs else None
                located = locate(node.run, start=start)
                status.fingerprint, status.run_dir = located.fingerprint, located.folder
                words = command(located, settings)
                place = steps.places[name]
                executor.submit(
                    Job(name, words, located.folder, located.fingerprint, priority=place)
                )
            for event in executor.poll(0.5):
                if event.kind != "reused":
                    raise SystemExit(f"{event.name} is to be found finished, but {event}")
                status = table.statuses[event.name]
                status.result = finished(status.run_dir, status.fingerprint) or {}
                scheduler.reused(event.name)
                table.change(event.name, "reused")
        executor.close()

    _, found = measured(counter, schedule)
    statuses = list(table.statuses.values())
    _, written = measured(counter, lambda: write_results(out, NAME, settings, statuses, {}))
    return {
        "plan": planned,
        "check data": checked,
        "find finished runs": found,
        "results.json": written,
    }


def main() -> None:
    folder, evaluations = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    counter = Counter()
    os.environ |= environment(folder)
    if not (folder / "work").is_dir():
        begin(folder)
    write_settings(folder, evaluations)
    os.chdir(folder)
    from sa3d.config.loading import load_experiment
    from sa3d.report import write_report

    config = load_experiment(NAME)
    fill(config)
    out = folder / "reports" / f"growth-{evaluations}"
    costs = flow(counter, config, out)
    _, costs["report"] = measured(counter, lambda: write_report(out / "results.json", out))
    print(json.dumps({name: cost._asdict() for name, cost in costs.items()}))


if __name__ == "__main__":
    main()
