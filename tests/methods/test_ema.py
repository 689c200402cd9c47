"""The EMA teacher: what it averages, when it runs, and that the same one serves both backbones."""

import copy

import pytest
import torch
from tiny import PLAIN, SCALES, build, clouds, experiment, progress

from sa3d.methods.sa3d.method import SA3D
from sa3d.methods.sa3d.settings import EmaConfig
from sa3d.metrics import names as keys

M = 10  # of 16 patches at 0.6, visible count floored
BOTH = pytest.mark.parametrize("model", [PLAIN, SCALES], ids=["point-mae", "point-m2ae"])


def step(method: SA3D, epoch: int = 9, seed: int = 0) -> dict[str, torch.Tensor]:
    return method.training_step(clouds(), progress(epoch, seed=seed))


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.999), (50, 0.99945), (99, 0.999891), (100, 0.9999), (399, 0.9999)]
)
def test_decay_of_the_published_run(epoch, expected):
    teacher = build(experiment(ema=EmaConfig())).teacher
    assert teacher.decay(epoch) == pytest.approx(expected, abs=1e-12)


def test_update_averages_parameters_and_statistics_and_copies_counters():
    method = build(experiment(ema={"start": 0.9, "end": 0.5, "ramp_epochs": 4}))
    source = method._scorer()
    before = copy.deepcopy(source.state_dict())
    step(method)["loss"].backward()  # moves the BatchNorm statistics
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    method.after_step(progress(epoch=1))
    decay = 0.8
    averaged = method.teacher.average.state_dict()
    now = method._scorer().state_dict()
    assert set(averaged) == set(now)
    counters = [name for name in now if name.endswith("num_batches_tracked")]
    assert len(counters) == 3
    for name, value in averaged.items():
        if name in counters:
            assert value.item() == now[name].item() == 1
        else:
            expected = decay * before[name].double() + (1 - decay) * now[name].double()
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(
        averaged["encoder.embed.norm1.running_mean"], now["encoder.embed.norm1.running_mean"]
    )


@BOTH
def test_teacher_has_no_decoder_but_its_positions(model):
    names = {n.split(".")[1] for n, _ in build(experiment(model)).teacher.named_parameters()}
    assert names == {"encoder", "pos", "gc"}


@BOTH
def test_both_teachers_stay_in_eval(model):
    method = build(experiment(model))
    assert method.training
    assert method.backbone.training
    frozen = [*method.teacher.modules(), *method.knowledge_teacher.modules()]
    assert not any(module.training for module in frozen)


@pytest.mark.parametrize(
    ("mask", "epochs_run"), [("gc", range(1, 10)), ("random", []), ("block", [])]
)
@BOTH
def test_teacher_runs_just_in_epochs_whose_budget_is_not_zero(model, mask, epochs_run):
    end_ratio = {"end_ratio": 0.5} if mask == "gc" else {}  # floor(10 * 0.5 * (e+1)/10)
    method = build(experiment(model, mask={"name": mask, **end_ratio}))
    runs = []
    method.teacher.register_forward_hook(lambda *_: runs.append(epoch))
    for epoch in range(10):
        out = step(method, epoch)
        assert out[keys.HARD].item() == ((epoch + 1) // 2 if mask == "gc" else 0)
    assert runs == list(epochs_run)


@BOTH
def test_hardest_patches_of_the_teacher_are_masked_in_the_step(model):
    method = build(experiment(model, mask={"name": "gc", "end_ratio": 1.0}))
    flags = []
    real = method.draw_mask
    method.draw_mask = lambda *args: (flags.append(real(*args)), flags[-1])[1]
    step(method, epoch=9)
    expected = method.teacher(method.backbone.group(clouds().points)).topk(M, 1).indices
    assert flags[0].flags.gather(1, expected).all()


@BOTH
def test_scores_of_a_cloud_do_not_depend_on_its_batch(model):
    method = build(experiment(model))
    points = clouds(4).points
    together = method.score(method.backbone.group(points))
    alone = method.score(method.backbone.group(points[2:3]))
    torch.testing.assert_close(alone[0], together[2], rtol=1e-4, atol=1e-6)
