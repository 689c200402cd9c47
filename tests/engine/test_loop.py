"""The loop on a toy method: schedule, groups, accumulation, guard."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from toy import SAMPLES, ToyMethod, ToySource, trainer

from sa3d.engine import optim, tune
from sa3d.engine.checkpoint import Checkpoint
from sa3d.engine.distributed import choose_device
from sa3d.engine.loop import Trainer
from sa3d.engine.schedule import learning_rate, learning_rate_of_epoch
from sa3d.engine.types import Progress
from sa3d.errors import TrainingError, UserError
from sa3d.tracking.journal import read_journal
from sa3d.utils import progress

PUBLISHED = {"peak": 1e-3, "epochs": 400, "warmup": 40}


@pytest.mark.parametrize(
    ("epoch", "mean"), [(0, 1.2423312883e-5), (399, 6.4047e-9), (100, 9.3192e-4), (200, 5.8469e-4)]
)
def test_mean_rate_of_an_epoch_is_that_of_the_official_log(epoch: int, mean: float) -> None:
    rates = [learning_rate(epoch + i / 163, **PUBLISHED) for i in range(163)]
    # the log prints 5 digits; epoch 0 is known to 11
    assert sum(rates) / 163 == pytest.approx(mean, rel=1e-10 if epoch == 0 else 1e-4)


def test_rate_ends_at_the_floor_and_peaks_after_the_warm_up() -> None:
    values = {"peak": 2.0, "epochs": 10, "warmup": 2, "floor": 0.5}
    assert learning_rate(0.0, **values) == 0.0
    assert learning_rate(1.0, **values) == 1.0
    assert learning_rate(2.0, **values) == 2.0
    assert learning_rate(6.0, **values) == pytest.approx(1.25)
    assert learning_rate(10.0, **values) == pytest.approx(0.5)
    assert learning_rate(0.0, peak=2.0, epochs=10) == 2.0


def test_a_cosine_longer_than_the_run_ends_above_its_floor(tmp_path: Path) -> None:
    rates = {}
    for name, longer in (("own", None), ("longer", 4)):
        values = {"epochs": 3, "cosine_epochs": longer, "lr": 1.0, "clip": None}
        rates[name] = trainer(tmp_path / name, settings=values)._rate(3.0)
    assert rates == {"own": 0.0, "longer": pytest.approx(0.5 * (1 + math.cos(math.pi * 0.75)))}


def test_rates_by_epoch_are_those_of_the_official_segmentation_log() -> None:
    values = {"peak": 2e-4, "epochs": 300, "warmup": 10, "floor": 1e-6}
    rates = {epoch: learning_rate_of_epoch(epoch, **values) for epoch in range(301)}
    # the log counts from 1 and prints the rate after the epoch: that of the next one
    for logged, rate in ((1, 1e-6), (2, 2.1e-5), (3, 4.1e-5), (10, 1.80e-4), (11, 1.99e-4)):
        assert rates[logged] == pytest.approx(rate, rel=6e-3)
    assert rates[0] == rates[1] == 1e-6
    assert rates[300] == pytest.approx(1e-6, rel=1e-2)


def test_rates_by_epoch_are_those_of_timms_scheduler_one_epoch_late() -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-4)
    theirs = CosineLRScheduler(
        optimiser, t_initial=300, lr_min=1e-6, warmup_t=10, warmup_lr_init=1e-6
    )
    values = {"peak": 5e-4, "epochs": 300, "warmup": 10, "floor": 1e-6}
    for epoch in range(301):
        assert learning_rate_of_epoch(epoch, **values) == pytest.approx(
            optimiser.param_groups[0]["lr"], rel=1e-9
        )
        theirs.step(epoch)  # their runners do so with the epoch that has ended


def test_a_schedule_by_epoch_keeps_its_rate_through_an_epoch(tmp_path: Path) -> None:
    values = {
        "schedule": "epoch",
        "epochs": 4,
        "cosine_epochs": 3,
        "lr": 1.0,
        "min_lr": 0.1,
        "warmup_epochs": 1,
    }
    trained = trainer(tmp_path, settings=values)
    trained.fit()
    rates = [rate for _, rate in read_journal(tmp_path)["train/lr"]]
    count = len(rates) // 4
    assert rates[: 2 * count] == [0.1] * 2 * count
    assert rates[2 * count : 3 * count] == [pytest.approx(0.1 + 0.9 * 0.75)] * count
    assert rates[3 * count :] == [pytest.approx(0.1 + 0.9 * 0.25)] * count


def test_groups_decay_only_matrices_and_scale_by_layer() -> None:
    method = ToyMethod()
    method.unused.requires_grad_(False)
    layers = {"token": 0, "body.0.weight": 0, "body.0.bias": 0, "body.3.weight": 2}
    groups = optim.parameter_groups(
        method, 0.05, exempt=method.no_weight_decay(), layers=layers, layer_decay=0.5
    )
    names = {id(p): n for n, p in method.named_parameters()}
    found = {names[id(p)]: (g["weight_decay"], g["lr_scale"]) for g in groups for p in g["params"]}
    assert found == {
        "token": (0.0, 0.25),
        "body.0.weight": (0.05, 0.25),
        "body.0.bias": (0.0, 0.25),
        "body.3.weight": (0.05, 1.0),
        "body.3.bias": (0.0, 1.0),  # unnamed: the topmost layer
    }


def test_groups_refuse_a_name_the_model_does_not_have() -> None:
    with pytest.raises(ValueError, match="tokne"):
        optim.parameter_groups(ToyMethod(), 0.05, exempt={"tokne"})


def test_clip_reports_the_norm_before_clipping() -> None:
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    assert optim.clip([p], 1.0).item() == pytest.approx(5.0)
    assert p.grad.norm().item() == pytest.approx(1.0, rel=1e-5)
    assert optim.clip([p], None).item() == pytest.approx(1.0, rel=1e-5)


def gradients(run_dir: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[torch.Tensor]:
    """Gradients of the first optimiser step."""
    method = ToyMethod()
    seen: list[torch.Tensor] = []
    real = optim.clip

    def spy(parameters: list[torch.nn.Parameter], largest: float | None) -> torch.Tensor:
        if not seen:
            seen.extend(p.grad.clone() for p in parameters if p.grad is not None)
        return real(parameters, largest)

    monkeypatch.setattr(optim, "clip", spy)
    trainer(run_dir, method, **changes).fit()
    return seen


def test_accumulated_gradient_is_that_of_the_big_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = gradients(tmp_path / "a", monkeypatch, settings={"batch_size": 24, "epochs": 1})
    monkeypatch.undo()
    small = {"batch_size": 8, "accumulate": 3, "epochs": 1}
    parts = gradients(tmp_path / "b", monkeypatch, settings=small)
    assert len(big) == len(parts) == 5
    for one, other in zip(big, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_smaller_last_step_where_accumulate_does_not_divide(tmp_path: Path) -> None:
    fit = trainer(tmp_path, settings={"batch_size": 8, "accumulate": 4, "epochs": 2}).fit()
    assert fit.steps == 2 * 2  # 6 batches: 4 and 2


def test_loss_falls_and_the_journal_tells(tmp_path: Path) -> None:
    method = ToyMethod()
    fit = trainer(tmp_path, method, settings={"epochs": 20}).fit()
    steps_per_epoch = SAMPLES // 8
    assert fit.steps == 20 * steps_per_epoch
    assert method.stepped == list(range(fit.steps))
    history = read_journal(tmp_path)
    losses = [value for _, value in history["train/loss"]]
    assert losses[-1] < 0.5 * losses[0]
    assert [s for s, _ in history["train/loss"]] == [s * steps_per_epoch for s in range(1, 21)]
    for name in ("train/lr", "train/grad_norm", "train/samples_per_second", "train/extra"):
        assert len(history[name]) == 20
    assert history["train/lr"][0][1] == pytest.approx(
        learning_rate(5 / 6, peak=1e-2, epochs=20), rel=1e-9
    )


def test_unused_parameters_are_left_alone(tmp_path: Path) -> None:
    method = ToyMethod()
    before = method.unused.weight.clone()
    trainer(tmp_path, method, settings={"weight_decay": 0.5}).fit()
    assert torch.equal(method.unused.weight, before)


def test_bf16_stays_close_to_fp32(tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        trainer(tmp_path / precision, settings={"precision": precision}).fit()
        losses.append(read_journal(tmp_path / precision)["train/loss"][-1][1])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


# --- the guard -----------------------------------------------------------------------------


def test_a_non_finite_loss_stops_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    trained = trainer(tmp_path, ToyMethod(bad_step=13))  # in epoch 2 of 0..2
    with pytest.raises(TrainingError, match=r"train/loss became nan at step 14 \(epoch 2\)"):
        trained.fit()
    state = Checkpoint(tmp_path / "last.pt", "toy").load(torch.device("cpu"))
    assert state is not None
    assert state["position"] == {"epoch": 2, "batch": 0, "step": 12}
    assert all(torch.isfinite(v).all() for v in state["method"].values())
    history = read_journal(tmp_path)
    assert history["train/nonfinite"] == [(18, 1.0)]
    assert all(math.isfinite(v) for values in history.values() for _, v in values)
    assert "NaN" not in (tmp_path / "journal.jsonl").read_text()


# --- small parts ---------------------------------------------------------------------------


def test_generator_differs_by_step_and_repeats_by_seed(tmp_path: Path) -> None:
    drawn: list[list[float]] = []
    for folder in "ab":
        draws: list[float] = []

        def prepare(batch: Any, progress: Progress, into: list[float] = draws) -> Any:
            into.append(torch.rand(1, generator=progress.generator).item())
            return batch

        trainer(tmp_path / folder, prepare=prepare).fit()
        drawn.append(draws)
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == len(drawn[0]) == 18


def test_the_progress_bar_counts_the_steps_of_all_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path / "short", label="toy").fit()
    assert capsys.readouterr().err == "", "shorter than 2 s"
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 1e-6)
    trainer(tmp_path / "quiet").fit()
    assert capsys.readouterr().err == ""
    trainer(tmp_path / "long", label="toy").fit()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("toy  1/18  ")
    assert lines[0].endswith(", epoch 1/3")
    assert re.fullmatch(
        r"toy  18/18  [\d.]+ steps/s, 00:00 left, epoch 3/3, loss [\d.]+, \d+ samples/s"
        r"(, \d+% of the time waiting for data)?",
        lines[-1],
    )


class Ready(ToySource):
    """Its batches are there before they are asked for."""

    def epoch(self, e: int, start: int = 0) -> Any:
        ready = list(super().epoch(e, start))
        return (batch for batch in ready)


def test_a_training_that_fails_leaves_no_source_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Watched(ToySource):
        def epoch(self, e: int, start: int = 0) -> Any:
            try:
                yield from super().epoch(e, start)
            finally:
                closed.append(e)

    def fails(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Trainer, "_step", fails)
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        trainer(tmp_path / "run", source=Watched()).fit()
    assert closed == [0]  # although the traceback holds its frame
    assert caught.tb is not None


def test_waiting_for_batches_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 1e-6)
    changes: dict[str, Any] = {"settings": {"accumulate": 2, "epochs": 2}, "label": "toy"}
    trainer(tmp_path / "slow", source=ToySource(sleep=0.1), **changes).fit()
    assert re.search(r", ([5-9]\d|100)% of the time waiting for data", capsys.readouterr().err)
    monkeypatch.setattr("sa3d.engine.loop._WAIT_SHOWN", 2.0)
    trainer(tmp_path / "quick", source=Ready(), **changes).fit()
    assert "waiting" not in capsys.readouterr().err
    shares = {
        name: [share for _, share in read_journal(tmp_path / name)["train/data_wait"]]
        for name in ("slow", "quick")
    }
    assert len(shares["slow"]) == len(shares["quick"]) == 2
    assert all(0.5 < share <= 1.0 for share in shares["slow"])
    assert all(0.0 <= share < 0.5 for share in shares["quick"])


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="--device gpu: use auto, cpu"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        assert choose_device("auto") == torch.device("cpu")
        with pytest.raises(UserError, match="no CUDA GPU"):
            choose_device("cuda")


def test_cpu_tuning_probes_and_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tune.onednn_in_use()
    try:
        monkeypatch.delenv(tune.OPT_OUT, raising=False)
        done = tune.configure_cpu()
        assert done.onednn == tune.onednn_in_use()
        assert done.speedup > 0
        # a route that loses precision must never be taken
        assert not done.onednn or done.error_ratio <= 4.0
        tune.use_onednn(False)
        monkeypatch.setenv(tune.OPT_OUT, "1")
        assert not tune.configure_cpu().onednn
        assert not tune.onednn_in_use()
    finally:
        tune.use_onednn(before)


def test_cpu_tuning_rejects_a_route_that_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tune.OPT_OUT, raising=False)
    monkeypatch.setattr(tune, "_probe", lambda: (3.0, 1000.0))  # AMX: fast, rounds to bf16
    before = tune.onednn_in_use()
    try:
        assert not tune.configure_cpu().onednn
        assert not tune.onednn_in_use()
    finally:
        tune.use_onednn(before)
