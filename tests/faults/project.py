"""A small real project to break: its processes, its run folders, and how to compare runs.

Nothing is faked: ``dvc repro``, the flow, the training process, MLflow's store and Prefect's
server are the real ones. Only the experiment is small: one pre-training of 300 steps.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from sa3d.metrics import names as keys
from sa3d.tracking.journal import FILE as JOURNAL
from sa3d.tracking.journal import entries, read_journal
from tests.faults.processes import marked, new_mark, wait_for

ROOT = Path(__file__).resolve().parents[2]
TIMED = (keys.SAMPLES_PER_SECOND, keys.DATA_WAIT)  # what depends on the clock
EPOCH_STEPS = 60
LAST_EPOCH = 4 * EPOCH_STEPS  # its beginning
PARAMS = """\
datasets:
  shapes: {source: shapes, seed: 0, shapes_per_class: 40, points: 128, test_fraction: 0.25}
experiments:
  tiny:
    seeds: [3]
    model: {groups: 8, group_size: 8, dim: 24, depth: 2, heads: 2, decoder_depth: 1}
    pretrain:
      {data: {name: shapes, points: 64}, mask_ratio: 0.5, epochs: 5, batch_size: 8, lr: 1.0e-3}
    variants:
      masked: {method: mae, mask: random}
    reference: masked
    evaluate: []
"""
PRETRAIN = "pretrain-shapes-masked-s3"
_CODE = ("sa3d", "flows", "extensions", "docker")
_FILES = (".dvc/config", ".dvcignore", ".gitignore", "data/raw", "metrics/README.md")
# settings of whoever runs the tests
_DROPPED = ("DVC_ROOT", "SA3D_ROOT", "SA3D_WORK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL")


@dataclass
class Project:
    """A checkout with a small experiment.

    Attributes:
        root: its folder.
        env: environment of what is started in it.
        mark: the part of ``env`` by which :mod:`tests.faults.processes` finds those processes.
    """

    root: Path
    mark: dict[str, str] = field(default_factory=new_mark)
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        env = {k: v for k, v in os.environ.items() if k not in (*_DROPPED, "PREFECT_HOME")}
        own = self.root.with_name(f"{self.root.name}-tmp")
        own.mkdir(exist_ok=True)
        self.env = (
            env
            | self.mark
            | {
                "TMPDIR": str(own),  # locks of cores of its own: tests run side by side
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
                "PYTHONPATH": str(ROOT),  # this checkout, not the installed one
                "DVC_SITE_CACHE_DIR": str(self.root / ".dvc" / "tmp" / "site"),
                "DVC_NO_ANALYTICS": "1",
                # its probe decides by speed: it might choose otherwise for the second start
                "SA3D_NO_CPU_TUNING": "1",
                "OMP_NUM_THREADS": "1",
            }
            | self.env
        )

    # -- starting ----------------------------------------------------------------------------

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """``python -m words``, in a process group of its own; output goes to ``output.txt``.

        It may use one core: then its training has one thread, and its sums one order.
        """
        with (self.root / "output.txt").open("ab") as sink:
            return subprocess.Popen(
                ["taskset", "--cpu-list", _core(), sys.executable, "-m", *words],
                cwd=self.root,
                env=self.env | environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def flow(self, *more: str, **environment: str) -> subprocess.Popen[bytes]:
        """The flow without DVC."""
        return self.start("flows.experiment", "tiny", *more, **environment)

    def repro(self, **environment: str) -> subprocess.Popen[bytes]:
        """``dvc repro``."""
        return self.start("dvc", "repro", "experiment@tiny", **environment)

    def pretrain(self, *more: str, **environment: str) -> subprocess.Popen[bytes]:
        """The training process without a flow."""
        words = ("sa3d", "pretrain", "-e", "tiny", "--variant", "masked", "--threads", "1")
        return self.start(*words, *more, **environment)

    def said(self) -> str:
        """All output so far of what was started."""
        path = self.root / "output.txt"
        return path.read_text(errors="replace") if path.is_file() else ""

    # -- looking -----------------------------------------------------------------------------

    @property
    def run_dir(self) -> Path:
        """The folder of the pre-training, which must have begun."""
        (found,) = self.work.glob(f"{PRETRAIN}-*")
        return found

    @property
    def work(self) -> Path:
        """Where run folders lie."""
        return Path(self.env.get("SA3D_WORK", self.root / "work"))

    def step(self) -> int:
        """The last step that the journal has; 0 before the first."""
        for folder in self.work.glob(f"{PRETRAIN}-*"):
            steps = read_journal(folder / JOURNAL).get("train/loss", [])
            return steps[-1][0] if steps else 0
        return 0

    def wait_for_step(self, step: int, seconds: float = 900.0) -> None:
        """Until the training has got so far."""
        wait_for(lambda: self.step() >= step, seconds, f"step {step}; {self.said()[-2000:]}")

    def training(self) -> psutil.Process:
        """The training process."""
        (found,) = marked(self.mark, "sa3d", "pretrain")
        return found

    def saved_step(self) -> int:
        """Where the checkpoint stands."""
        state = torch.load(self.run_dir / "last.pt", weights_only=True)
        return int(state["position"]["step"])

    def outcome(self) -> dict[str, Any]:
        """What two runs of the same settings must have in common, to the last bit."""
        result = json.loads((self.run_dir / "result.json").read_text())
        weights = (self.run_dir / "model" / "model.safetensors").read_bytes()
        history = read_journal(self.run_dir)
        return {
            "weights": hashlib.sha256(weights).hexdigest(),
            # before, a run that saved and went on has recorded at other steps
            "loss": [(step, value) for step, value in history["train/loss"] if step > LAST_EPOCH],
            "metrics": {k: v for k, v in result["metrics"].items() if k not in TIMED},
        }

    def seconds(self) -> float:
        """How long the finished run says it took."""
        return float(json.loads((self.run_dir / "result.json").read_text())["seconds"])

    def rates(self) -> list[float]:
        """Samples per second that it recorded."""
        return [value for _, value in read_journal(self.run_dir)["train/samples_per_second"]]

    def resumed_at(self, since: float) -> int:
        """The first step that was recorded after the time ``since``, less what one record spans.

        So many steps were not computed again.
        """
        found = [e for e in entries(self.run_dir / JOURNAL) if e["kind"] == "metrics"]
        before = [e["step"] for e in found if e["at"] < since]
        after = [e["step"] for e in found if e["at"] >= since]
        assert after, "nothing was recorded since"
        assert max(before, default=0) < min(after)
        return max(before, default=0)


def ended(process: subprocess.Popen[bytes], seconds: float = 900.0) -> int:
    """The exit status, once there is one."""
    return process.wait(seconds)


def copy_of(project: Path, root: Path) -> Project:
    """A project like that at ``project``, with run folders of its own to come."""
    shutil.copytree(project, root, symlinks=True, ignore=shutil.ignore_patterns("output.txt"))
    return Project(root)


def new_project(root: Path) -> Project:
    """A checkout with a small experiment whose data is prepared; nothing was run."""
    root.mkdir()
    for name in _CODE:
        (root / name).symlink_to(ROOT / name)
    for name in _FILES:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    (root / "params.yaml").write_text(PARAMS)
    made = Project(root)
    for written in ("flows.dvc_pipeline", "flows.prefect_yaml"):
        assert ended(made.start(written)) == 0, made.said()
    me = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "begin"]):
        subprocess.run(["git", *me, *words], cwd=root, check=True)
    assert ended(made.start("dvc", "repro", "prepare@shapes")) == 0, made.said()
    return made


def _core() -> str:
    """The core that is used least just now."""
    cores = sorted(os.sched_getaffinity(0))
    busy = psutil.cpu_percent(interval=0.2, percpu=True)
    return str(min(cores, key=lambda core: busy[core]))
