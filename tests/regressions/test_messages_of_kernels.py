"""What the C++ kernels say when they refuse, also where the linker took the C++ library in whole.

A number printed into a stream of such a library cut the message there, or ended the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import point_ops
import pytest
import torch

ROOT = Path(__file__).parents[2]
CLOUD = torch.rand(1, 5, 3)
OPS = torch.ops.point_ops
FLAG = "-static-libstdc++"

# what is asked, past the checks in Python where those would say it first -> what is said
REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "index": (
        lambda: point_ops.gather(CLOUD, torch.tensor([[9]])),
        "idx: expected values in 0..4",
    ),
    "lengths": (
        lambda: point_ops.farthest_point_sample(CLOUD, 2, lengths=[9]),
        "lengths: expected values in 1..5",
    ),
    "neighbours": (lambda: OPS.knn(CLOUD, CLOUD, 9), "k: expected 1..5, got 9"),
    "axes": (
        lambda: OPS.gather(CLOUD[0], torch.tensor([[1]])),
        "points: expected 3 axes, got (5, 3)",
    ),
    "shape": (
        lambda: OPS.gather(CLOUD, torch.zeros(2, 4, dtype=torch.int64)),
        "idx: expected shape (1, 4), got (2, 4)",
    ),
    "type": (
        lambda: OPS.knn(CLOUD.long(), CLOUD.long(), 1),
        "points: expected float32 or float64, got Long",
    ),
    "number": (
        lambda: OPS.auction(CLOUD, CLOUD, -1.5),
        "eps: expected a positive number, got -1.5",
    ),
}
SAY_ALL = """
from test_messages_of_kernels import REFUSALS, point_ops
assert "cpp" in point_ops.backends("cpu").values()
for name, (ask, _) in REFUSALS.items():
    try:
        ask()
    except ValueError as error:
        print(name, error, sep=": ", flush=True)
"""
cpp_only = pytest.mark.skipif(
    "cpp" not in point_ops.backends("cpu").values(), reason="no C++ kernels here"
)


@cpp_only
@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_messages_are_whole(name: str) -> None:
    ask, said = REFUSALS[name]
    with pytest.raises(ValueError, match="expected") as told:
        ask()
    assert str(told.value) == said


@pytest.fixture(scope="module")
def static_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with point_ops whose C++ library is linked into the kernels."""
    folder = tmp_path_factory.mktemp("static")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler here")
    (folder / "probe.cpp").write_text("#include <string>\nint main() { return 0; }\n")
    probe = [compiler, FLAG, "probe.cpp", "-o", "probe"]
    if subprocess.run(probe, cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip(f"{compiler} does not link with {FLAG} here")
    skipped = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "*.so")
    shutil.copytree(ROOT / "extensions", folder / "extensions", ignore=skipped)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation"]
    built = subprocess.run(
        [*install, "--no-deps", "--target", str(folder / "site"), str(folder / "extensions")],
        env={**os.environ, "POINT_OPS_BUILD": "require", "POINT_OPS_LDFLAGS": FLAG},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "site"


@pytest.mark.slow
def test_messages_are_whole_with_a_static_library(static_build: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SAY_ALL],
        env={**os.environ, "PYTHONPATH": f"{static_build}{os.pathsep}{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"exit status {run.returncode}\n{run.stdout}{run.stderr}"
    said = [f"{name}: {message}" for name, (_, message) in REFUSALS.items()]
    assert run.stdout.splitlines() == said
