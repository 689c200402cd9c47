"""SA3D and SA3DF: who trains, on what, with which weights, and when the teacher runs."""

import copy
import math

import pytest
import torch
from tiny import GROUPS, OURS, PLAIN, PLAIN_MASKS, SCALES, build, clouds, experiment, progress
from torch.utils._python_dispatch import TorchDispatchMode

from sa3d import models
from sa3d.errors import ConfigError
from sa3d.masking.base import Mask
from sa3d.methods.build import build_method
from sa3d.methods.mae.method import MAE
from sa3d.methods.sa3d.ema import EmaTeacher
from sa3d.methods.sa3d.method import SA3D
from sa3d.methods.sa3df.method import SA3DF
from sa3d.metrics import names as keys
from sa3d.models.point_mae.backbone import PointMAE

POINT_TERMS = ["teacher_decoded_nograd", "teacher_decoded_grad", "ground_truth_grad"]
HEAD = {"backbone.decoder.head.weight", "backbone.decoder.head.bias"}
M = 10  # of 16 patches at 0.6, visible count floored


def step(method: SA3D, epoch: int = 9, seed: int = 0) -> dict[str, torch.Tensor]:
    return method.training_step(clouds(), progress(epoch, seed=seed))


def student(method: SA3D) -> dict[str, torch.nn.Parameter]:
    return {n: p for n, p in method.named_parameters() if not n.startswith(method.teachers)}


# --- gradients -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "untrained"),
    [
        ({"point_term": "teacher_decoded_nograd"}, HEAD),
        ({"point_term": "teacher_decoded_grad"}, HEAD),
        ({"point_term": "ground_truth_grad"}, set()),
        ({"method": "sa3d"}, set()),
        ({"method": "sa3d", "mask": "random"}, set()),
        ({"method": "sa3d", "shared_mask_token": True}, set()),
        ({"gc_loss": "absolute"}, HEAD),
    ],
)
def test_parameters_without_gradient_are_exactly_the_frozen_ones(changes, untrained):
    method = build(experiment(**changes))
    step(method)["loss"].backward()
    assert {n for n, p in student(method).items() if p.grad is None} == untrained
    assert {n for n, p in student(method).items() if not p.requires_grad} == untrained
    teachers = [p for n, p in method.named_parameters() if n.startswith(method.teachers)]
    assert teachers
    assert not any(p.requires_grad or p.grad is not None for p in teachers)


def test_point_term_reaches_the_student_just_in_the_modes_that_say_so():
    touched = {}
    for term in POINT_TERMS:
        method = build(experiment(point_term=term, switch_epoch=0, feature_weight=0, gc_weight=0))
        step(method)["loss"].backward()
        fc = method.backbone.decoder.stack.blocks[0].mlp.fc1.weight
        touched[term] = bool(fc.grad.any())
    assert touched == dict(zip(POINT_TERMS, [False, True, True], strict=True))


def test_ranking_loss_reaches_encoder_positions_and_mask_token_but_not_the_decoder_blocks():
    method = build(experiment(switch_epoch=0, feature_weight=0))
    step(method)["loss"].backward()
    named = student(method)
    for name in (
        "backbone.encoder.embed.point1.weight",
        "backbone.encoder.stack.blocks.0.attn.qkv.weight",
        "backbone.decoder.pos.0.weight",
        "gc.mask_token",
        "gc.out.weight",
    ):
        assert named[name].grad.any(), name
    assert not named["backbone.decoder.stack.blocks.0.mlp.fc1.weight"].grad.any()


# --- the loss ------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 1, 2, 9])
@pytest.mark.parametrize("changes", [{}, {"point_term": "ground_truth_grad"}, {"method": "sa3d"}])
def test_weights_switch_on_at_the_switch_epoch(epoch, changes):
    method = build(experiment(switch_epoch=2, gc_weight=0.5, **changes))
    out = {name: value.double().item() for name, value in step(method, epoch).items()}
    feature, point = (1, 1) if epoch < 2 else (13.889, 1000)
    expected = feature * out.get(keys.FEATURE, 0) + point * out[keys.POINT] + 0.5 * out[keys.GC]
    assert out["loss"] == pytest.approx(expected, rel=1e-5)
    assert (keys.FEATURE in out) == isinstance(method, SA3DF)


def transcribed(method: SA3DF, mask: Mask) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Feature and point terms (B, M) and scores of the published method, patch by patch."""
    groups = method.backbone.group(clouds().points)
    encoded = method.backbone.encode(groups, mask)
    decoded = method.backbone.decode(encoded, groups, mask).tokens
    teacher = method.knowledge_teacher
    known = teacher.encode(groups, None).tokens
    feature, point, scores = torch.zeros(3, *mask.masked.shape)
    for b, row in enumerate(mask.masked.tolist()):
        places = [mask.order[b].tolist().index(patch) for patch in row]
        ours, centers = decoded[b], groups.centers[b, row]
        everywhere = teacher.decode_features(known[b : b + 1], groups.centers[b : b + 1])[0]
        predicted = teacher.decode_features(ours[None], centers[None])[0]
        for m, patch in enumerate(row):
            cosine = torch.cosine_similarity(ours[m], known[b, patch], dim=0)
            feature[b, m] = 2 - 2 * cosine
            square = (predicted[m][:, None] - everywhere[patch][None]).square().sum(-1)
            point[b, m] = square.min(0).values.mean() + square.min(1).values.mean()
        visible = encoded.tokens[b : b + 1]
        positions = method.backbone.decoder_positions(groups)[b : b + 1, mask.order[b]]
        scores[b] = method.gc(visible, positions)[0, places]
    return feature, point, scores


def test_sa3df_terms_are_those_of_a_patch_by_patch_transcription():
    method = build(experiment()).eval()  # eval: batch statistics would differ sample by sample
    flags = torch.zeros(4, GROUPS, dtype=torch.bool)
    for b in range(4):
        flags[b, b : b + M] = True
    mask = Mask.of(flags, M)
    method.draw_mask = lambda *_: mask
    with torch.no_grad():
        out = step(method, epoch=0)
        feature, point, scores = transcribed(method, mask)
        assert out[keys.FEATURE].item() == pytest.approx(feature.mean().item(), rel=1e-4)
        assert out[keys.POINT].item() == pytest.approx(point.mean().item(), rel=1e-4)
        hardness = feature + point
        total, pairs = 0.0, 0
        for b in range(4):
            for i in range(M):
                for j in range(M):
                    if hardness[b, i] > hardness[b, j]:
                        total += math.log1p(math.exp(scores[b, j] - scores[b, i]))
                        pairs += 1
        assert out[keys.GC].item() == pytest.approx(total / pairs, rel=1e-4)


def test_feature_loss_starts_near_two_with_an_unrelated_teacher():
    values = [step(build(experiment({"dim": 96}), seed=s))[keys.FEATURE].item() for s in range(3)]
    assert sum(values) / 3 == pytest.approx(2, abs=0.3)


def test_patches_without_points_are_left_out_of_the_ranking(monkeypatch):
    """A multi-scale backbone may have masked patches with nothing to rebuild at its scale."""
    real = PointMAE.point_loss
    garbage = 1e6

    def partial(self, decoded, groups, mask):
        found = real(self, decoded, groups, mask)
        valid = torch.ones_like(found.per_patch, dtype=torch.bool)
        valid[:, ::2] = False
        return type(found)(found.loss, found.per_patch.masked_fill(~valid, garbage), valid)

    monkeypatch.setattr(PointMAE, "point_loss", partial)
    seen = []
    monkeypatch.setattr(
        "sa3d.methods.sa3d.method.ranking_loss",
        lambda s, y, valid: (seen.append((y, valid)), s.sum() * 0)[1],
    )
    step(build(experiment(method="sa3d")))
    assert seen[0][1].tolist() == [[False, True] * (M // 2)] * 4
    step(build(experiment(point_term="ground_truth_grad")))
    hardness, valid = seen[1]
    assert valid is None  # the feature term alone ranks such a patch
    assert hardness.max() < garbage


# --- the GC predictor ----------------------------------------------------------------------


def test_predictor_score_is_the_mean_of_the_heads_channels_with_gradients():
    gc = build(experiment()).eval().gc
    tokens, positions = torch.randn(2, 3, 5, 24, generator=torch.Generator().manual_seed(0))
    seen = []
    gc.norm.register_forward_hook(lambda _, __, output: seen.append(output))
    scores = gc(tokens, positions)
    rows = gc.hidden_norm(gc.hidden(seen[0].reshape(-1, 24)))
    full = gc.out(torch.where(rows > 0, rows, 0.2 * rows)).view(3, 5, 24)
    torch.testing.assert_close(scores, full.mean(-1), rtol=1e-4, atol=1e-6)
    (ours,) = torch.autograd.grad(scores.square().sum(), gc.out.weight, retain_graph=True)
    (theirs,) = torch.autograd.grad(full.mean(-1).square().sum(), gc.out.weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_head_statistics_cover_visible_and_masked_tokens():
    method = build(experiment())
    rows = []
    method.gc.hidden_norm.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0]))
    step(method)
    assert [tuple(r.shape) for r in rows] == [(4 * GROUPS, 1024)]


def test_predictor_shares_the_mask_token_on_request():
    own, shared = build(experiment()), build(experiment(shared_mask_token=True))
    assert own.no_weight_decay() == {"backbone.decoder.mask_token", "gc.mask_token"}
    assert shared.no_weight_decay() == {"backbone.decoder.mask_token"}
    for method, moves in ((own, False), (shared, True)):
        method.eval()
        groups = method.backbone.group(clouds().points)
        mask = Mask.of(torch.arange(GROUPS).expand(4, -1) < M, M)
        encoded = method.backbone.encode(groups, mask)
        before = method._masked_scores(encoded, groups, mask)
        torch.nn.init.constant_(method.backbone.decoder.mask_token, 3.0)
        after = method._masked_scores(encoded, groups, mask)
        assert torch.equal(before, after) != moves


# --- how a step runs -----------------------------------------------------------------------


def test_a_step_is_determined_by_weights_batch_and_progress():
    config = experiment({"drop_path": 0.0})
    results = []
    for global_seed in (1, 2):
        method = build(config)
        torch.manual_seed(global_seed)
        out = step(method)
        out["loss"].backward()
        results.append((out, method.gc.out.weight.grad))
    (one, grad), (two, again) = results
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert torch.equal(grad, again)
    assert not torch.equal(one["loss"], step(build(config), seed=1)["loss"])


def test_bf16_autocast_keeps_losses_and_scores_float32():
    method = build(experiment())
    scores = []
    for gc in (method.gc, method.teacher.average.gc):
        gc.register_forward_hook(lambda _, __, output: scores.append(output))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = step(method)
    out["loss"].backward()
    assert {value.dtype for value in out.values()} == {torch.float32}
    assert [s.dtype for s in scores] == [torch.float32] * 2
    plain = step(build(experiment()))
    assert out[keys.FEATURE].item() == pytest.approx(plain[keys.FEATURE].item(), rel=0.1)


class Ops(TorchDispatchMode):
    """Names of the operators that run, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        if func is torch.ops.aten.index.Tensor:
            dtypes = [i.dtype for i in args[1] if i is not None]
            assert torch.bool not in dtypes, "a boolean gather waits for its count"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("changes", [{}, {"method": "sa3d"}])
@pytest.mark.parametrize(
    # how many patches are visible on the finer scales is read once, of all scales together
    ("model", "reads"),
    [(PLAIN, 0), (SCALES, 1)],
)
def test_a_step_waits_not_for_the_device_and_grows_not_with_the_batch(
    model, reads, changes, monkeypatch
):
    counts, read = [], []
    real = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: (read.append(1), real(self))[1])
    for batch in (2, 6):
        method = build(experiment(model, **changes))
        read.clear()
        with Ops() as ops:
            method.training_step(clouds(batch), progress())["loss"].backward()
            method.after_step(progress())
        waits = [n for n in ops.names if "local_scalar" in n or "nonzero" in n or "item" in n]
        assert waits == []
        assert len(read) == reads
        counts.append(len(ops.names))
    assert counts[0] == counts[1]


def test_logged_values_are_detached_scalars_named_in_metric_keys():
    out = step(build(experiment()))
    logged = {keys.FEATURE, keys.POINT, keys.GC, keys.HARD, keys.HARD_SHARE, keys.EMA_DECAY}
    assert set(out) == {"loss", *logged}
    assert all(value.dim() == 0 for value in out.values())
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    assert out[keys.HARD_SHARE].item() == pytest.approx(out[keys.HARD].item() / M)


@pytest.mark.parametrize("changes", [{}, {"method": "sa3d"}])
@pytest.mark.parametrize("model", [PLAIN, SCALES])
def test_training_learns_and_leaves_the_knowledge_teacher_alone(model, changes):
    # the point term of the hierarchical backbone trains: not so heavy that features wait
    weights = {"switch_epoch": 0, "point_weight": 10.0}
    method = build(experiment(model | {"drop_path": 0.0}, **weights, **changes))
    teacher = method.knowledge_teacher if isinstance(method, SA3DF) else None
    before = copy.deepcopy(teacher.state_dict()) if teacher else {}
    trained = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=2e-3)
    key = keys.FEATURE if teacher else keys.POINT
    history = []
    for index in range(25):
        out = step(method, epoch=index * 10 // 25, seed=index)
        out["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        method.after_step(progress())
        history.append(out[key].item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])
    for name, value in before.items():
        assert torch.equal(value, teacher.state_dict()[name]), name


def test_exported_state_holds_the_student_alone():
    method = build(experiment())
    names = set(method.student_state())
    assert {name.split(".")[0] for name in names} == {"backbone", "gc"}
    assert names == {n for n in method.state_dict() if not n.startswith(method.teachers)}


def test_resumed_state_gives_the_same_step():
    config = experiment({"drop_path": 0.0})
    first = build(config)
    step(first)["loss"].backward()
    with torch.no_grad():
        for parameter in student(first).values():
            parameter.add_(0.01)
    first.after_step(progress())
    second = build(config, seed=99)
    second.load_state_dict(first.state_dict())
    assert torch.equal(step(first)["loss"], step(second)["loss"])


# --- building from config ------------------------------------------------------------------


def test_methods_from_config_alone():
    sa3df, sa3d = build(experiment()), build(experiment(method="sa3d"))
    assert [type(sa3df), type(sa3d)] == [SA3DF, SA3D]
    assert type(build(experiment(), variant=PLAIN_MASKS)) is MAE
    for method in (sa3df, sa3d):
        assert isinstance(method.teacher, EmaTeacher)
        assert len(method.gc.stack.blocks) == 2
    assert isinstance(sa3df.knowledge_teacher, PointMAE)
    assert not any("knowledge_teacher" in name for name, _ in sa3d.named_parameters())


def test_both_methods_share_weights_and_masks_and_differ_in_the_loss_alone():
    """SA3DF without its feature term, rebuilding the true points, is SA3D; but for what it
    ranks, which is then features and points together."""
    same = {"switch_epoch": 0, "gc_depth": 2, "gc_weight": 0.0}
    sa3d = build(experiment(method="sa3d", **same))
    sa3df = build(experiment(point_term="ground_truth_grad", feature_weight=0.0, **same))
    shared = sa3d.state_dict()
    missing = sa3df.load_state_dict(shared, strict=False)
    assert missing.unexpected_keys == []
    assert {name.split(".")[0] for name in missing.missing_keys} == {"knowledge_teacher"}
    results = []
    for method in (sa3d, sa3df):
        torch.manual_seed(3)  # the same blocks dropped
        out = step(method)
        out["loss"].backward()
        results.append((out, method))
    (one, first), (two, second) = results
    assert torch.equal(one[keys.POINT], two[keys.POINT])
    assert torch.equal(one["loss"], two["loss"])
    for name, parameter in student(first).items():
        assert torch.equal(parameter.grad, student(second)[name].grad), name


def test_wrong_combinations_are_refused():
    config = experiment()
    ours, plain = config.methods[OURS], config.methods[PLAIN_MASKS]
    teacher = models.build_backbone(config.model)
    with pytest.raises(ConfigError, match="sa3df needs"):
        build_method(ours, config.model)
    with pytest.raises(ConfigError, match="mae takes no"):
        build_method(plain, config.model, teacher)
    sa3d = experiment(method="sa3d").methods[OURS]
    with pytest.raises(ConfigError, match="sa3d takes no"):
        build_method(sa3d, config.model, teacher)
    other = models.build_backbone(experiment({"dim": 48}).model)
    with pytest.raises(ConfigError, match="16 patches of width 48"):
        build_method(ours, config.model, other)
    hard = plain.model_copy(update={"mask": ours.mask})
    with pytest.raises(ConfigError, match="mask=gc needs a method that predicts scores"):
        build_method(hard, config.model)
