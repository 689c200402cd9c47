"""Steps of pre-training against those that are written plainly, for fifty steps."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import OURS, PLAIN, PLAIN_MASKS, POINTS, SCALES, build, experiment, progress

from benchmarks.plain_sa3df import PlainMAE, PlainSA3DF, PlainScales

STEPS, BATCH = 50, 8
CASES: dict[str, tuple[dict[str, Any], str, Any]] = {
    "mae": (PLAIN, PLAIN_MASKS, PlainMAE),
    "sa3df": (PLAIN, OURS, PlainSA3DF),
    "m2ae": (SCALES, PLAIN_MASKS, PlainScales),
}


def method_of(case: str, precision: str) -> Any:
    model, variant, _ = CASES[case]
    config = experiment(model | {"drop_path": 0.0}, precision=precision, switch_epoch=0)
    settings = config.methods[variant].model_copy(update={"precision": precision})
    config = config.model_copy(update={"variants": config.variants | {variant: settings}})
    return build(config, variant=variant)


def batches() -> tuple[torch.Tensor, torch.Tensor]:
    """Clouds of every step, and numbers from which their masks are drawn."""
    random = torch.Generator().manual_seed(1)
    return (
        torch.randn(STEPS, BATCH, POINTS, 3, generator=random),
        torch.rand(STEPS, BATCH, 16, generator=random),
    )


def losses(
    case: str, form: str, precision: str, order: list[int] | None = None, steps: int = STEPS
) -> torch.Tensor:
    """Of each of the ``steps``; ``order``: of the clouds within a batch."""
    method = method_of(case, precision)
    masked = method.strategy.masked
    plain: Any = None
    if form == "plain":
        hard = [method.strategy.hard_budget(9, 10)] if case == "sa3df" else []
        plain = CASES[case][2](method_of(case, "fp32"), masked, *hard).train()
    module = plain if form == "plain" else method
    trained = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-3)
    found = []
    for points, draw in islice(zip(*batches(), strict=True), steps):
        if order is not None:
            points, draw = points[order], draw[order]
        flags = torch.zeros(draw.shape, dtype=torch.bool)
        flags = flags.scatter_(1, draw.topk(masked, dim=1).indices, True)
        method.strategy = Fixed(method.strategy, flags)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            if plain is None:
                batch = SimpleNamespace(points=points)
                loss = method.training_step(batch, progress(9))["loss"]
            else:
                loss = plain.loss(points, flags)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        plain.after() if plain is not None else method.after_step(progress(9))
        found.append(loss.detach())
    return torch.stack(found).double()


class Fixed:
    """A mask strategy whose mask is given."""

    def __init__(self, strategy: Any, flags: torch.Tensor) -> None:
        self._strategy, self._flags = strategy, flags

    def __call__(self, *_: Any) -> torch.Tensor:
        return self._flags

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strategy, name)


@pytest.mark.parametrize("case", CASES)
def test_the_first_loss_is_that_of_the_plain_form(case: str) -> None:
    ours, plain = (losses(case, form, "fp32", steps=1) for form in ("ours", "plain"))
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=0)


def gap(found: torch.Tensor, plain: torch.Tensor) -> float:
    """Mean over the steps."""
    return float(((found - plain) / plain).abs().mean())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_in_fifty_steps_they_differ_as_the_plain_form_in_bf16_from_itself_in_another_order(
    case: str,
) -> None:
    plain = losses(case, "plain", "bf16")
    assert plain[-10:].mean() < 0.95 * plain[:10].mean(), "a model that learns, or it says little"
    turned, back = [*range(1, BATCH), 0], [*range(BATCH)][::-1]
    own = max(gap(losses(case, "plain", "bf16", order), plain) for order in (turned, back))
    assert 0 < gap(losses(case, "ours", "bf16"), plain) < 2 * own
    # AdamW turns rounding of gradients that are almost zero into steps of full size
    assert gap(losses(case, "ours", "fp32"), losses(case, "plain", "fp32")) < own
