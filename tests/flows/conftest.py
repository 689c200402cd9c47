"""A project of its own for flows to run in, and one Prefect server for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest

from sa3d.utils.layout import FORMAT, VERSION
from tests.live import common_prefect

HERE = Path(__file__).parent
PARAMS = """
datasets:
  shapes: {source: shapes, seed: 0, shapes_per_class: 8, points: 128, test_fraction: 0.4}
experiments:
  tiny:
    seeds: [3]
    model: {groups: 8, group_size: 8, dim: 24, depth: 2, heads: 2, decoder_depth: 1}
    pretrain:
      {data: {name: shapes, points: 64, val_fraction: 0.3}, mask_ratio: 0.5, epochs: 2,
       batch_size: 16, lr: 1.0e-3}
    variants:
      sa3df:
        {method: sa3df, teacher: random-masks, mask: gc, gc_depth: 1, switch_epoch: 1,
         ema: {start: 0.9, end: 0.99, ramp_epochs: 1}}
      random-masks: {method: mae, mask: random}
      scratch: {scratch: true}
    reference: sa3df
    evaluate:
      - {task: svm, settings: {folds: 2}}
      - {task: classify, settings: {epochs: 2, batch_size: 16, lr: 1.0e-3}}
"""
# every name that any process of a flow looks up, the server and the children included
SPY = """
import os, socket
_asked = socket.getaddrinfo
def _spy(host, *args, **kwargs):
    with open(os.environ["SPIED"], "a") as file:
        file.write(f"{host}\\n")
    return _asked(host, *args, **kwargs)
socket.getaddrinfo = _spy
"""


@dataclass
class Project:
    """A folder with settings and (fake) processed data, and how to run its flow."""

    root: Path
    env: dict[str, str]

    def start(self, *more: str) -> subprocess.Popen[str]:
        """The flow on fake children, in its own process."""
        return subprocess.Popen(
            [sys.executable, str(HERE / "driver.py"), "tiny", *more],
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *more: str) -> tuple[int, str]:
        """Exit status and output of the flow."""
        process = self.start(*more)
        said, _ = process.communicate(timeout=240)
        return process.returncode, said

    def tell(self, file: str, *names: str) -> None:
        """Which fake children shall ``fail``, ``hang`` or be ``slow``."""
        (self.root / "fake" / file).write_text(" ".join(names))

    def started(self) -> list[str]:
        """Names of the nodes whose children were started since this was asked last."""
        path = self.root / "fake" / "started"
        found = [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    def pids(self) -> list[int]:
        """Process ids of the children started so far."""
        path = self.root / "fake" / "started"
        return (
            [int(line.split()[1]) for line in path.read_text().splitlines()]
            if path.exists()
            else []
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose data is a stub: fake children read none."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "fake").mkdir()
    (tmp_path / "spy").mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    (tmp_path / "data" / "processed").mkdir(parents=True)
    with h5py.File(tmp_path / "data" / "processed" / "shapes.h5", "w") as file:
        file.attrs["digest"] = "d1"
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
    dropped = ("DVC_ROOT", "SA3D_WORK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME")
    env = {key: value for key, value in os.environ.items() if key not in dropped}
    env |= {
        "SA3D_ROOT": str(tmp_path),
        "FAKE": str(tmp_path / "fake"),
        "SPIED": str(tmp_path / "spied"),
        "TMPDIR": str(tmp_path / "tmp"),  # locks of cores of its own: tests run side by side
        # this checkout, not the installed one
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "spy"), str(HERE.parents[1])]),
    }
    return Project(tmp_path, env)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server for the flows of this session."""
    with common_prefect(tmp_path_factory.mktemp("prefect")) as started:
        yield started


@pytest.fixture
def served(project: Project, api: str) -> Project:
    """A project whose flows report to the session's server."""
    project.env["PREFECT_API_URL"] = api
    return project
