"""What only whole processes can show: kill -9, signals, a full disk, torchrun."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sa3d.engine.checkpoint import Checkpoint
from sa3d.tracking.journal import read_journal

TOY = Path(__file__).with_name("toy.py")


def start(run_dir: Path, *arguments: str, limit: int | None = None) -> subprocess.Popen[str]:
    def lower() -> None:
        assert limit is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, str(TOY), str(run_dir), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lower if limit is not None else None,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out.strip(), err


def wait_for_step(run_dir: Path, epoch: int, batch: int) -> None:
    """Until the checkpoint stands inside ``epoch``, at or after ``batch``."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        state = Checkpoint(run_dir / "last.pt", "toy").load(torch.device("cpu"))
        if state and (state["position"]["epoch"], state["position"]["batch"]) >= (epoch, batch):
            return
        time.sleep(0.02)
    raise AssertionError("the toy did not get there")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    code, weights, err = finish(start(tmp_path_factory.mktemp("whole")))
    assert code == 0, err
    return weights


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        (signal.SIGKILL, -9),
        (signal.SIGTERM, 143),
        (signal.SIGINT, 130),
    ],
)
@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_then_resumed_gives_the_same_weights(
    tmp_path: Path, uninterrupted: str, signum: signal.Signals, code: int
) -> None:
    process = start(tmp_path, "--sleep", "0.15")
    wait_for_step(tmp_path, 1, 2)
    process.send_signal(signum)
    assert finish(process)[0] == code
    state = Checkpoint(tmp_path / "last.pt", "toy").load(torch.device("cpu"))
    assert state is not None
    assert state["position"]["epoch"] == 1, "the kill was meant to fall into epoch 1"
    assert 0 < state["position"]["batch"] < 6
    again, weights, err = finish(start(tmp_path))
    assert again == 0, err
    assert weights == uninterrupted
    steps = [step for step, _ in read_journal(tmp_path)["train/loss"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == 18
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.slow
def test_a_full_disk_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    assert finish(start(tmp_path, "--epochs", "2"))[0] == 0
    before = (tmp_path / "last.pt").read_bytes()
    # room for the journal, not for a checkpoint: the kernel itself refuses the write
    code, _, err = finish(start(tmp_path, "--epochs", "3", limit=len(before) // 2))
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "last.pt" in err
    assert "the checkpoint before it is intact" in err
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*tmp"))
    code, weights, _ = finish(start(tmp_path, "--epochs", "3"))
    assert code == 0
    assert weights


def torchrun(*program: str) -> None:
    """``program`` in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "0", "--standalone", *program]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_gloo_processes_train_as_one_does(tmp_path: Path) -> None:
    """The toy has no batch norm: with it, statistics of half batches differ by design."""
    torchrun(str(TOY), str(tmp_path / "two"), "--batch", "4", "--epochs", "1")
    one = tmp_path / "one"
    one.mkdir()
    script = (
        "import sys; sys.path.insert(0, {!r}); import toy, torch; from pathlib import Path;"
        "m = toy.ToyMethod(); toy.trainer(Path({!r}), m, settings={{'epochs': 1}}).fit();"
        "torch.save(m.state_dict(), {!r})"
    ).format(str(TOY.parent), str(one), str(one / "weights.pt"))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    single = torch.load(one / "weights.pt", weights_only=True)
    double = torch.load(tmp_path / "two" / "weights.pt", weights_only=True)
    for name, value in single.items():
        torch.testing.assert_close(double[name], value, rtol=1e-5, atol=1e-6, msg=name)
    # AdamW does not see the scale of a gradient: only the norm tells a mean from a sum
    for key in ("train/loss", "train/grad_norm"):
        of_one, of_two = (read_journal(tmp_path / d)[key][-1][1] for d in ("one", "two"))
        assert of_one == pytest.approx(of_two, rel=1e-5), key
    assert not (tmp_path / "two" / "rank1" / "last.pt").exists()
    assert not read_journal(tmp_path / "two" / "rank1")


@pytest.mark.slow
def test_two_gloo_processes_train_every_parameter_of_the_real_methods(tmp_path: Path) -> None:
    """A parameter without a gradient would stop the second step; one that is not exchanged
    would drift apart, as each process has clouds of its own."""
    torchrun(str(TOY.with_name("real.py")), str(tmp_path))
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert len(found) == 12
    for name in ("sa3df", "sa3df-own-head", "sa3d", "mae", "sa3df-scales", "mae-scales"):
        assert found[f"{name}-0"] == found[f"{name}-1"], name
