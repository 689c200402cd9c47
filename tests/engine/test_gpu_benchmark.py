"""The benchmark for GPUs, every row of it, with narrow models on the CPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from recording import CpuRecorder
from torch.autograd import DeviceType

from benchmarks import gpu

pytestmark = pytest.mark.slow


def options(**values: str) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name}", *value.split())]


def setting(**values: object) -> list[str]:
    """``--set model.NAME=VALUE`` of each."""
    return [part for name, value in values.items() for part in ("--set", f"model.{name}={value}")]


QUICK = options(device="cpu", batches="4", steps="2", size="32", megabytes="1", backend="eager")
QUICK += ["--set", "pretrain.data.points=96", *setting(heads=3, embed_width=8)]
ONE_SCALE = [
    *options(experiments="point-mae-sa3df"),
    *setting(groups=16, group_size=8, dim=24, depth=1, decoder_depth=1),
]
THREE_SCALES = [
    *options(experiments="point-m2ae-sa3df"),
    *("--set", "pretrain.mask_ratio=0.6"),
    *setting(groups="[48,24,16]", group_sizes="[6,5,3]", dims="[12,18,24]", depths="[1,1,1]"),
]


def test_graphs_lose_as_eager_steps_do_and_shares_are_of_one_peak(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = gpu.main([*QUICK, *ONE_SCALE, *options(rounds="plain")], CpuRecorder)
    assert [row.failed for row in rows] == [""] * len(rows)
    assert [row.key for row in rows] == [
        ("point-mae-sa3df", method, precision, 4, way)
        for method in ("sa3df", "mae")
        for precision in ("bf16", "fp32")
        for way in ("eager", "graph")
    ]
    for eager, graph in zip(rows[::2], rows[1::2], strict=True):
        assert graph.loss == eager.loss
    for row, other in zip(rows[:4], rows[4:], strict=True):
        assert row.counted is not None
        assert other.counted is not None
        assert row.counted.flops > other.counted.flops > 0
        peaks = [r.counted.flops / r.ms / r.share for r in (row, other) if r.counted]
        assert peaks[0] == pytest.approx(peaks[1])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(rows)
    assert {line.count("|") for line in table} == {len(gpu.COLUMNS) + 1}


@pytest.mark.parametrize("method", ["mae", pytest.param("sa3df", marks=pytest.mark.slow)])
def test_compiled_steps_and_torchs_embedding_lose_as_eager_steps_do(method: str) -> None:
    few = options(methods=method, precisions="bf16")
    rows = gpu.main([*QUICK, *ONE_SCALE, *few], CpuRecorder)
    assert [row.way for row in rows] == [way for ways in gpu.ROUNDS.values() for way in ways]
    assert [row.failed for row in rows] == [""] * 6
    # in bf16 torch's embedding rounds elsewhere, which moves masks and with them the loss
    assert [row.loss for row in rows] == [pytest.approx(rows[0].loss, rel=5e-3)] * 6
    counted = {row.way: row.counted.operations for row in rows if row.counted}
    assert counted["graph"] == counted["compiled"] < counted["torch embedding"]


def test_point_m2ae_is_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa3d.models.point_m2ae.backbone.longest", lambda *flags: [48, 24])
    few = options(rounds="plain", methods="sa3df", precisions="bf16")
    eager, graph = gpu.main([*QUICK, *THREE_SCALES, *few], CpuRecorder)
    assert (eager.failed, graph.failed) == ("", "")
    assert graph.loss == eager.loss


def test_a_row_that_fails_is_named_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    few = options(methods="mae", precisions="bf16")
    rows = gpu.main([*QUICK, *ONE_SCALE, *few, "--backend", "missing"])
    found = {row.way: row.failed for row in rows}
    assert found["eager"] == ""
    assert found["graph"] == "failed: RuntimeError: a CUDA graph needs a GPU"
    assert found["compiled"].startswith("failed: ")
    assert "a CUDA graph needs a GPU" in capsys.readouterr().out


def test_no_row_begins_after_the_time_is_up() -> None:
    rows = gpu.main([*QUICK, *ONE_SCALE, "--minutes", "0"])
    assert {row.failed for row in rows} == {"left out: no time"}


def test_hours_are_those_of_the_published_pretraining() -> None:
    few = options(rounds="plain", methods="mae", precisions="fp32")
    eager, _ = gpu.main([*QUICK, *ONE_SCALE, *few])
    assert eager.hours == pytest.approx(52_470 * 301 / 4 * eager.ms / 1000 / 3600)


def test_kernels_and_host_calls_are_told_apart() -> None:
    def event(name: str, on_gpu: bool, microseconds: float) -> SimpleNamespace:
        taken = SimpleNamespace(elapsed_us=lambda: microseconds)
        kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
        return SimpleNamespace(name=name, device_type=kind, time_range=taken)

    events = [
        event("aten::mm", False, 50.0),
        event("cudaLaunchKernel", False, 5.0),
        event("cuLaunchKernelEx", False, 5.0),
        event("cudaGraphLaunch", False, 5.0),
        event("cudaDeviceSynchronize", False, 500.0),
        event("nvjet_sm90", True, 1500.0),
        event("Memcpy HtoD", True, 500.0),
    ]
    assert gpu.profiled(events) == (2, 2.0, 3)
