"""Teachers compute with weights that are in the run's precision already, to the same result."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from casts import Casts, bf16
from tiny import build, clouds, experiment, progress

from sa3d.layers.converted import weights_of
from sa3d.methods.sa3d.method import SA3D
from sa3d.methods.sa3df.method import SA3DF


def method_in(precision: str, **changes: Any) -> SA3D:
    return build(experiment(**changes, precision=precision)).train()


def losses(method: SA3D) -> dict[str, float]:
    torch.manual_seed(0)  # stochastic depth
    with bf16(), torch.no_grad():
        values = method.training_step(clouds(), progress(9))
    return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("term", ["teacher_decoded_grad", "ground_truth_grad"])
def test_losses_are_those_of_weights_converted_at_every_call(term: str) -> None:
    converted, plain = method_in("bf16", point_term=term), method_in("fp32", point_term=term)
    plain.load_state_dict(converted.state_dict())
    assert isinstance(converted, SA3DF)
    assert converted.knowledge_teacher.encoder.pos[0].weight.dtype == torch.bfloat16
    plain.teacher._scorer = lambda: plain.teacher.average  # type: ignore[method-assign,assignment]
    assert losses(converted) == losses(plain)


def test_no_weight_is_converted_more_than_once_a_step_and_no_teachers_at_all() -> None:
    method = method_in("bf16")
    for _ in range(2):
        casts = Casts()
        with casts, bf16():
            loss = method.training_step(clouds(), progress(9))["loss"]
        loss.backward()
    assert isinstance(method, SA3DF)
    frozen = [*weights_of(method.teacher), *weights_of(method.knowledge_teacher)]
    trained = [p for p in method.parameters() if p.requires_grad]
    assert {casts.addresses[weight.data_ptr()] for weight in frozen} == {0}
    assert {casts.addresses[weight.data_ptr()] for weight in trained} == {0, 1}


def test_the_ema_teacher_scores_with_the_weights_after_the_last_update() -> None:
    method = method_in("bf16", ema={"start": 0.0, "end": 0.0})
    groups = method.backbone.group(clouds().points)
    with bf16():
        before = method.score(groups)
    with torch.no_grad():
        for weight in method.backbone.encoder.parameters():
            weight.add_(0.1)
    method.after_step(progress(9))
    with bf16(), torch.no_grad():
        after = method.score(groups)
        assert torch.equal(after, method.teacher.average(groups))
    assert not torch.equal(after, before)


def test_pictures_are_made_with_a_converted_teacher_too() -> None:
    method = method_in("bf16", point_term="teacher_decoded_grad").eval()
    groups = method.backbone.group(clouds().points)
    mask = method.draw_mask(groups, method.score(groups), progress(9))
    with torch.no_grad():
        assert method.rebuild(groups, mask).dtype == torch.float32


@pytest.mark.parametrize("name", ["sa3d", "sa3df"])
def test_a_state_of_fp32_teachers_loads(name: str) -> None:
    old, new = method_in("fp32", method=name), method_in("bf16", method=name)
    new.load_state_dict(old.state_dict())
    assert losses(new) == pytest.approx(losses(old), rel=1e-2)
