"""What a command pays before it computes: seconds, processor time, imports, modules.

    python benchmarks/start.py --rounds 3
    python benchmarks/start.py --rounds 3 --other ../another-checkout

In a project of its own in a temporary folder, with an experiment of a few steps, so that nearly
all of a run is its start and its end. Jobs run as a flow starts them. `ready` is the end of the
first optimiser step, of a run without one the first call of a model, else the end of the command;
`whole` is the whole command. Imports are timed once, in a run of their own (python -X
importtime), as far as ready. With `--other`, both checkouts take turns. docs/start_up.md has what
was measured.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import json
import os
import resource
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve()
LOOK = "SA3D_START_LOOK"  # where the process that is looked at writes what it saw
HEAVY = (
    *("torch", "torch._dynamo", "timm", "torchvision", "scipy", "sklearn", "pandas"),
    *("matplotlib", "mlflow", "prefect", "h5py"),
)
PARAMS = """\
datasets:
  tiny: {source: shapes, seed: 0, shapes_per_class: 8, points: 128, test_fraction: 0.25}
experiments:
  tiny:
    seeds: [1]
    model: {groups: 8, group_size: 8, dim: 24, depth: 2, heads: 2, decoder_depth: 1}
    pretrain:
      {data: {name: tiny, points: 64, val_fraction: 0.2}, mask_ratio: 0.6, epochs: 2,
       batch_size: 32, lr: 1.0e-3}
    variants:
      sa3df: {method: mae, mask: random}
    reference: sa3df
    evaluate:
      - {task: svm, settings: {folds: 2}}
      - {task: classify, settings: {epochs: 2, batch_size: 16, lr: 1.0e-3}}
      - task: fewshot
        label: 3w2s
        settings: {way: 3, shot: 2, queries: 2, folds: 2, epochs: 3, batch_size: 6, lr: 1.0e-3}
"""
OPTIONS = ["-e", "tiny", "--threads", "1", "--device", "cpu", "-q"]
JOB = {"SA3D_LEFT_TO_FLOW": "1"}
COMMANDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "sa3d --help": (["--help"], {}),
    "sa3d embed, one cloud": (["embed", "cloud.npy", "--out", "out.npz", "-q"], {}),
    "sa3d pretrain": (["pretrain", *OPTIONS], {}),
    "job svm": (["svm", *OPTIONS], JOB),
    "job classify": (["classify", *OPTIONS], JOB),
    "job fewshot, one episode": (["fewshot", *OPTIONS, "--fold", "0"], JOB),
}


class Look(importlib.abc.MetaPathFinder):
    """Notes, in the process that is looked at, when it is ready; asks torch, once it is loaded."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        """Leave the loading to others, and hook in after that of torch's optimisers."""
        if name != "torch.optim.optimizer":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def loaded(module: ModuleType) -> None:
            load(module)
            from torch.nn.modules.module import register_module_forward_pre_hook

            register_module_forward_pre_hook(lambda *_: self.note("called"))
            module.register_optimizer_step_post_hook(lambda *_: self.note("stepped"))

        spec.loader.exec_module = loaded  # type: ignore[method-assign]
        return spec

    def note(self, what: str) -> None:
        """Note it the first time."""
        if what in self.seen:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.seen[what] = {
            "seconds": time.monotonic() - float(os.environ["SA3D_START_AT"]),
            "processor": used.ru_utime + used.ru_stime,
            "modules": len(sys.modules),
            "heavy": [name for name in HEAVY if name in sys.modules],
        }
        if what == "stepped":
            print("start.py: stepped", file=sys.stderr, flush=True)  # ends the list of imports


def inside(words: Sequence[str]) -> None:
    """Be the command ``sa3d``, and write down what was seen of it."""
    # this script's folder holds a file that shares its name with the package point_ops
    sys.path[:] = [each for each in sys.path if Path(each or ".").resolve() != HERE.parent]
    look = Look()
    sys.meta_path.insert(0, look)
    sys.argv = ["sa3d", *words]
    try:
        runpy.run_module("sa3d", run_name="__main__", alter_sys=True)
    finally:
        look.note("ended")
        Path(os.environ[LOOK]).write_text(json.dumps(look.seen))


def watched(tree: Path, project: Path, words: Sequence[str], env: dict[str, str]) -> dict[str, Any]:
    """What one run of a command of the checkout ``tree`` saw; the runs before it are removed."""
    out = project / "seen.json"
    given = environment(tree, project) | env
    command = [sys.executable, str(HERE), "--inside", *words]
    forget(project)
    _run(command, given | {LOOK: str(out), "SA3D_START_AT": str(time.monotonic())}, project)
    seen: dict[str, Any] = json.loads(out.read_text())
    return seen


def imports(tree: Path, project: Path, words: Sequence[str], env: dict[str, str]) -> float:
    """Seconds that the same command spends on imports until it is ready."""
    given = environment(tree, project) | env
    given |= {LOOK: str(project / "seen.json"), "SA3D_START_AT": "0"}
    forget(project)
    said = _run([sys.executable, "-X", "importtime", str(HERE), "--inside", *words], given, project)
    lines = said.partition("start.py: stepped")[0].splitlines()
    own = [line[12:].split("|")[0] for line in lines if line.startswith("import time:")]
    return sum(int(each) for each in own if each.strip().isdigit()) / 1e6


def environment(tree: Path, project: Path) -> dict[str, str]:
    """Of a process that runs the code of a checkout in the project."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SA3D", "MLFL"))}
    return kept | {"PYTHONPATH": str(tree), "SA3D_ROOT": str(project), "OMP_NUM_THREADS": "1"}


def forget(project: Path) -> None:
    """Remove all runs but the pre-trainings that others start from, which are set aside."""
    shutil.rmtree(project / "work", ignore_errors=True)
    if (project / "kept").is_dir():
        shutil.copytree(project / "kept", project / "work")


def _run(command: Sequence[str], env: dict[str, str], project: Path) -> str:
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stderr


def prepared(tree: Path, project: Path, pretrained: bool) -> None:
    """Data, a store of MLflow, and, where a command starts from it, a pre-training."""
    shutil.rmtree(project / "kept", ignore_errors=True)
    if not pretrained:
        return
    forget(project)
    words = [sys.executable, "-m", "sa3d", "pretrain", *OPTIONS]
    _run(words, environment(tree, project), project)
    (project / "work").rename(project / "kept")


def begun(tree: Path, project: Path) -> None:
    """The project itself."""
    import numpy as np

    (project / "params.yaml").write_text(PARAMS)
    np.save(project / "cloud.npy", np.random.default_rng(0).normal(size=(2048, 3)))
    words = [sys.executable, "-m", "sa3d", "data", "prepare", "tiny", "--quiet"]
    _run(words, environment(tree, project), project)


def row(name: str, tree: str, runs: Sequence[dict[str, Any]], loading: float) -> str:
    """One line of the table: medians."""

    def ready(run: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = run.get("stepped") or run.get("called") or run["ended"]
        return found

    def median(values: Sequence[float]) -> str:
        return f"{statistics.median(values):.2f}"

    cells = [
        name,
        tree,
        median([ready(run)["seconds"] for run in runs]),
        median([ready(run)["processor"] for run in runs]),
        f"{loading:.2f}",
        str(ready(runs[-1])["modules"]),
        median([run["ended"]["seconds"] for run in runs]),
        median([run["ended"]["processor"] for run in runs]),
        ", ".join(runs[-1]["ended"]["heavy"]) or "-",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", type=Path, help="another checkout, to compare with")
    parser.add_argument("--only", default="", help="commands with this in their name")
    args = parser.parse_args()
    trees = {"this": HERE.parents[1]} | ({"other": args.other.resolve()} if args.other else {})
    chosen = {name: each for name, each in COMMANDS.items() if args.only in name}
    print("| command | code | ready, s | processor, s | of which imports | modules ", end="")
    print("| whole, s | processor, s | loaded by the end |\n|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        projects = {name: Path(folder) / name for name in trees}
        for name, tree in trees.items():
            projects[name].mkdir()
            begun(tree, projects[name])
        for needs in (False, True):
            group = {n: e for n, e in chosen.items() if n.startswith("job") is needs}
            for name, tree in trees.items() if group else ():
                prepared(tree, projects[name], needs)
            for command, (words, env) in group.items():
                runs: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
                for _ in range(args.rounds):
                    for name, tree in trees.items():
                        runs[name].append(watched(tree, projects[name], words, env))
                for name, tree in trees.items():
                    loading = imports(tree, projects[name], words, env)
                    print(row(command, name, runs[name], loading), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2:])
    else:
        main()
