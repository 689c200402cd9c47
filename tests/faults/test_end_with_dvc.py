"""What DVC starts ends with DVC, however DVC ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flows.dvc_pipeline import dvc_yaml
from tests.faults.processes import end_all, new_mark, wait_for, wait_until_gone

ROOT = Path(__file__).parents[2]
SETTINGS = """
datasets: {shapes: {source: shapes, points: 64}}
experiments:
  demo:
    model: {groups: 8, group_size: 8}
    variants: {scratch: {scratch: true}}
    evaluate: [{task: svm, data: {name: shapes, points: 64}}]
"""
# in place of the flow: saves when it is asked to end
FLOW = """
import signal, sys, time
from pathlib import Path

def save(*_):
    Path("saved").touch()
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
Path("ready").touch()
time.sleep(60)
"""


@pytest.fixture
def mark() -> Iterator[dict[str, str]]:
    made = new_mark()
    yield made
    end_all(made)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A DVC repository whose one stage has the commands of the real one, and nothing to read."""
    (tmp_path / "params.yaml").write_text(SETTINGS)
    written = yaml.safe_load(dvc_yaml(tmp_path / "params.yaml"))
    commands = [
        line.replace("${key}", "demo") for line in written["stages"]["experiment"]["do"]["cmd"]
    ]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"demo": {"cmd": commands}}}))
    flows = tmp_path / "flows"
    flows.mkdir()
    for name in ("__init__", "dvc_pipeline"):
        (flows / f"{name}.py").touch()
    shutil.copy2(ROOT / "flows" / "parent_death_signal.py", flows)
    (flows / "experiment.py").write_text(FLOW)
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True
    )
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
@pytest.mark.parametrize(
    ("signum", "shell"), [(signal.SIGKILL, "/bin/sh"), (signal.SIGTERM, shutil.which("bash"))]
)
def test_the_flow_saves_and_ends_when_dvc_is_killed(
    repository: Path, mark: dict[str, str], signum: signal.Signals, shell: str | None
) -> None:
    env = os.environ | mark | {"DVC_SITE_CACHE_DIR": str(repository / "site")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env.pop("PYTHONPATH", None)
    if shell is not None:
        env["SHELL"] = shell
    dvc = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "demo"], cwd=repository, env=env)
    wait_for((repository / "ready").is_file, 60, "the flow's start")
    dvc.send_signal(signum)
    assert dvc.wait(60) == -signum
    wait_until_gone(mark, 60)
    assert (repository / "saved").is_file()
