"""Checkpoints of the loop: resumed to the same bits, refused where damaged or another run's."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import ToyMethod, ToySource, digest, trainer

from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.loop import Trainer
from sa3d.engine.signals import Stopped
from sa3d.errors import CheckpointError
from sa3d.tracking.journal import read_journal


class StopAt:
    """A source that raises in the middle of an epoch: what a crash looks like from inside."""

    def __init__(self, source: ToySource, epoch: int, batch: int) -> None:
        self.source, self.at, self.batch_size = source, (epoch, batch), source.batch_size

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, e: int, start: int = 0) -> Any:
        for number, batch in enumerate(self.source.epoch(e, start), start):
            if (e, number) == self.at:
                raise KeyboardInterrupt
            yield batch


@pytest.mark.parametrize("minutes", [0.0, 60.0])
def test_resume_is_bit_exact(tmp_path: Path, minutes: float) -> None:
    def make(folder: str, source: Any) -> tuple[Trainer, ToyMethod]:
        method = ToyMethod(dropout=0.3, noise=0.2)
        saved = Checkpoint(tmp_path / folder / "last.pt", "toy", minutes)
        return trainer(tmp_path / folder, method, source=source, checkpoint=saved), method

    whole, expected = make("whole", ToySource())
    whole.fit()
    broken, _ = make("cut", StopAt(ToySource(), 1, 4))
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    again, found = make("cut", ToySource())
    result = again.fit()
    assert result.resumed_at is not None
    assert (result.resumed_at.epoch, result.resumed_at.batch) == (
        (1, 4) if minutes == 0 else (1, 0)
    )
    assert digest(found) == digest(expected)
    journals = [read_journal(tmp_path / folder)["train/loss"] for folder in ("whole", "cut")]
    assert journals[1][-1] == journals[0][-1]
    steps = [step for step, _ in journals[1]]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("minutes", [0.0, 60.0])
def test_ends_of_epochs_need_not_be_saved(tmp_path: Path, minutes: float) -> None:
    saved = Checkpoint(tmp_path / "last.pt", "toy", minutes, epochs=False)
    result = trainer(tmp_path, ToyMethod(), checkpoint=saved).fit()
    state = saved.load(torch.device("cpu"))
    if minutes:
        assert state is None
    else:  # it is time all the time
        assert state is not None
        assert state["position"]["step"] == result.steps


def test_a_stop_is_saved_where_ends_of_epochs_are_not(tmp_path: Path) -> None:
    def make(method: ToyMethod, epoch_end: Any = None) -> Trainer:
        saved = Checkpoint(tmp_path / "last.pt", "toy", 60.0, epochs=False)
        return trainer(tmp_path, method, checkpoint=saved, epoch_end=epoch_end)

    def stop(epoch: int, step: int) -> None:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        make(ToyMethod(), stop).fit()
    resumed = make(ToyMethod()).fit().resumed_at
    assert resumed is not None
    assert (resumed.epoch, resumed.batch) == (2, 0)


def test_fit_after_the_end_trains_nothing(tmp_path: Path) -> None:
    first = ToyMethod()
    trainer(tmp_path, first).fit()
    second = ToyMethod()
    trainer(tmp_path, second).fit()
    assert second.stepped == []
    assert digest(second) == digest(first)


def test_the_epoch_stands_beside_every_point_of_training(tmp_path: Path) -> None:
    trainer(tmp_path).fit()
    history = read_journal(tmp_path)
    loss, epochs = history["train/loss"], history["epoch"]
    assert [step for step, _ in epochs] == [step for step, _ in loss]
    last, whole = epochs[-1]
    assert whole == round(whole), "the end of the last epoch"
    assert all(epoch == pytest.approx(step * whole / last) for step, epoch in epochs)


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path).fit()
    with pytest.raises(CheckpointError, match="belongs to run toy, this is run other"):
        trainer(tmp_path, checkpoint=Checkpoint(tmp_path / "last.pt", "other")).fit()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_an_unreadable_checkpoint_is_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable checkpoint; delete it"):
        trainer(tmp_path).fit()


def test_a_truncated_checkpoint_is_one_message(tmp_path: Path) -> None:
    trainer(tmp_path).fit()
    path = tmp_path / "last.pt"
    path.write_bytes(path.read_bytes()[:-200])
    path.with_name("last.prev.pt").unlink()
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        trainer(tmp_path).fit()


@pytest.mark.parametrize("kept", [0, 200])
def test_a_damaged_checkpoint_leaves_the_one_before_it_to_go_on_from(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kept: int
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    undisturbed = ToyMethod()
    trainer(whole, undisturbed).fit()

    def stop(epoch: int, step: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(cut, epoch_end=stop).fit()
    last, before = cut / "last.pt", cut / "last.prev.pt"
    assert sorted(cut.glob("last*")) == [before, last]
    saved = [torch.load(path, weights_only=True)["position"]["epoch"] for path in (before, last)]
    assert saved == [1, 2]
    last.write_bytes(last.read_bytes()[:kept])
    again = ToyMethod()
    trainer(cut, again).fit()
    said = capfd.readouterr().err
    assert f"{last} is not a readable checkpoint; going on from the one before it" in said
    assert 0 < len(again.stepped) < len(undisturbed.stepped)
    assert digest(again) == digest(undisturbed)
    ours, theirs = (read_journal(folder)["train/loss"] for folder in (cut, whole))
    assert ours == theirs
    for path in (last, before):
        assert torch.load(path, weights_only=True)["fingerprint"] == "toy", "neither is damaged"
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last\.pt is not a readable checkpoint; delete it"):
        trainer(cut).fit()
    Checkpoint(last, "toy").remove()
    assert not list(cut.glob("last*"))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"format": 1, "fingerprint": "toy", "x": Evil()}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError):
        trainer(tmp_path).fit()
    assert not (tmp_path / "ran").exists()


def test_extra_state_comes_back(tmp_path: Path) -> None:
    class Best:
        value = 0

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.value = state["value"]

    best = Best()

    def at_end(epoch: int, step: int) -> None:
        best.value = epoch * 100 + step

    trainer(tmp_path, extra={"best": best}, epoch_end=at_end).fit()
    found = Best()
    trainer(tmp_path, extra={"best": found}).fit()
    assert found.value == best.value == 218
