"""One way from a cloud to what a model sees: in evaluation, in pictures and when served."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cloud_sets import set_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sa3d import registry
from sa3d.checkpoints.export import export_model
from sa3d.data.loader import Batches
from sa3d.data.preprocessing import Preprocessing, farthest, unit_sphere, unit_sphere_float64
from sa3d.data.store import NORMALISATIONS, CloudSet
from sa3d.errors import CheckpointError, DataError
from sa3d.inference.clouds import DENSITY
from sa3d.inference.serving import FeatureModel
from sa3d.models import build_backbone

POINTS = 64
SIZES = (300, 64, 65, 128, 90, 300, 64, 257)


# --- the unit sphere ---------------------------------------------------------------------


def test_unit_sphere() -> None:
    points = torch.randn(5, 20, 3, generator=torch.Generator().manual_seed(0)) * 7 + 3
    scaled = unit_sphere(points)
    torch.testing.assert_close(scaled.mean(dim=1), torch.zeros(5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.norm(dim=2).amax(dim=1), torch.ones(5))
    assert torch.equal(unit_sphere(torch.ones(1, 4, 3)), torch.zeros(1, 4, 3))
    literal = torch.tensor([[0.0, 0, 0], [4, 0, 0], [2, 3, 0], [2, -3, 0]])
    expected = torch.tensor([[-2.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, -3, 0]]) / 3
    torch.testing.assert_close(unit_sphere(literal), expected)


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.just(3)),
        elements=st.floats(-1000, 1000, width=32),
    )
)
def test_the_form_for_sources_centres_and_bounds(points: np.ndarray) -> None:
    scaled = unit_sphere_float64(points)
    radii = np.linalg.norm(scaled.astype(np.float64), axis=1)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-5)
    assert radii.max() == pytest.approx(1.0, abs=1e-5) or (points == points[0]).all()


def test_both_forms_agree() -> None:
    points = np.random.default_rng(0).normal(size=(4, 500, 3)).astype(np.float32) * 9 + 2
    one = unit_sphere(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(one, [unit_sphere_float64(p) for p in points], atol=1e-6)


def test_importing_it_costs_no_torch() -> None:
    code = "import sys, sa3d.data.preprocessing, sa3d.data.writing; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


# --- farthest points ---------------------------------------------------------------------


def greedy(cloud: np.ndarray, count: int, start: int) -> list[int]:
    """Farthest-point sampling, written out."""
    chosen = [start]
    while len(chosen) < min(count, len(cloud)):
        gaps = ((cloud[:, None].astype(np.float64) - cloud[chosen]) ** 2).sum(axis=2).min(axis=1)
        chosen.append(int(gaps.argmax()))
    return chosen


def test_farthest_points_of_clouds_of_many_sizes() -> None:
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(n, 3)).astype(np.float32) for n in SIZES]
    starts = [int(rng.integers(n)) for n in SIZES]
    for given_starts in (None, starts):
        found = farthest(clouds, 65, given_starts)
        for at, cloud in enumerate(clouds):
            start = 0 if given_starts is None else starts[at]
            whole = len(cloud) <= 65  # then nothing is chosen, the order stays
            expected = list(range(len(cloud))) if whole else greedy(cloud, 65, start)
            assert found[at].tolist() == expected
            alone = farthest([cloud], 65, None if given_starts is None else [start])
            assert alone[0].tolist() == expected


def test_a_cloud_of_few_distinct_points_repeats_its_start() -> None:
    cloud = np.repeat(np.eye(3, dtype=np.float32), 30, axis=0)
    (found,) = farthest([cloud], 6, [45])
    assert found[0] == 45
    assert sorted(cloud[found[:3]].argmax(axis=1).tolist()) == [0, 1, 2]
    assert found[3:].tolist() == [45] * 3


# --- the path ----------------------------------------------------------------------------


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_cloud_alone_and_in_a_batch(normalisation: Any) -> None:
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(n, 3)).astype(np.float32) * 5 + 1 for n in SIZES]
    way = Preprocessing(POINTS, normalisation)
    batch = way.batch(clouds)
    assert batch.shape == (len(SIZES), POINTS, 3)
    for cloud, seen in zip(clouds, batch, strict=True):
        assert torch.equal(way.cloud(cloud), seen)
    radii = batch.norm(dim=2).amax(dim=1)
    if normalisation == "none":
        assert radii.min() > 5
        assert batch[1].tolist() == clouds[1].tolist()
    else:
        # the farthest points hold the farthest of all, nearly: the sphere is filled either way
        torch.testing.assert_close(radii, torch.ones(len(SIZES)), atol=0.1, rtol=0)
    centred = batch.mean(dim=1).abs().max() < 1e-6
    assert centred == (normalisation == "subsample")


def test_what_a_card_holds(tmp_path: Path) -> None:
    clouds = set_of(tmp_path / "s.h5", (70, 90, 110, 500, 600), normalisation="cloud")
    way = Preprocessing.of(clouds, 64)  # the last two are test
    assert way == Preprocessing(64, "cloud", stored_points=90)
    assert Preprocessing.from_json(json.loads(json.dumps(way.to_json()))) == way
    short = {"points": 64, "normalisation": "none"}
    assert Preprocessing.from_json(short) == Preprocessing(64, "none", None)


@pytest.mark.parametrize(
    "tree",
    [
        None,
        {},
        {"points": 64},
        {"points": "64", "normalisation": "none"},
        {"points": 0, "normalisation": "none"},
        {"points": 64, "normalisation": "sphere"},
        {"points": 64, "normalisation": "none", "stored_points": "many"},
        {"points": 64, "normalisation": "none", "centre": True},
    ],
)
def test_cards_that_say_nothing_of_use(tree: Any) -> None:
    with pytest.raises(CheckpointError, match=r"card has preprocessing .* export the model again"):
        Preprocessing.from_json(tree)


# --- serving -----------------------------------------------------------------------------


def exported(folder: Path, way: Preprocessing | None) -> FeatureModel:
    """A small model whose card says that its clouds are prepared by ``way``."""
    settings = registry.load_at(registry.BACKBONES["point-mae"].settings)(
        groups=8, group_size=8, dim=24, depth=1, heads=2
    )
    torch.manual_seed(0)
    weights = build_backbone(settings).state_dict()
    card: dict[str, Any] = {"kind": "pretrain", "model": settings.model_dump(mode="json")}
    if way is not None:
        card["preprocessing"] = way.to_json()
    export_model(folder, {f"backbone.{name}": value for name, value in weights.items()}, card)
    return FeatureModel(folder)


def evaluated(model: FeatureModel, clouds: CloudSet, batch_size: int) -> np.ndarray:
    """Features of all clouds, read as the evaluation reads them."""
    batches = Batches(
        clouds,
        np.arange(len(clouds)),
        batch_size=batch_size,
        points=POINTS,
        seed=0,
        shuffle=False,
        drop_last=False,
        sampling="fps",
    )
    with torch.inference_mode():
        found = [
            model._encoder._backbone.features(batch.points).numpy() for batch in batches.epoch(0)
        ]
    return np.concatenate(found)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("sizes", [(300,) * 6, SIZES])
def test_a_served_cloud_has_the_features_of_evaluation(
    tmp_path: Path, normalisation: Any, sizes: tuple[int, ...], one_thread: None
) -> None:
    clouds = set_of(tmp_path / "s.h5", sizes, normalisation=normalisation)
    model = exported(tmp_path / "model", Preprocessing.of(clouds, POINTS))
    given = [clouds.cloud(row) for row in range(len(clouds))]
    served = model.predict(np.stack(given) if len(set(sizes)) == 1 else given)
    np.testing.assert_array_equal(served, evaluated(model, clouds, len(sizes)))
    for row, cloud in enumerate(given):
        alone = evaluated(model, clouds, 1)[row]
        np.testing.assert_array_equal(model.predict(cloud)[0], alone)


def test_serving_refuses_a_model_that_does_not_say_how(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="card has preprocessing None"):
        exported(tmp_path / "model", None)


def test_unusual_density_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = exported(tmp_path / "model", Preprocessing(POINTS, "subsample", stored_points=400))
    rng = np.random.default_rng(0)
    usual, dense, sparse = (
        rng.normal(size=(n, 3)) for n in (400 * int(DENSITY), 400 * int(DENSITY) + 1, 99)
    )
    with caplog.at_level(logging.WARNING):
        model.predict([usual, usual])
        assert caplog.messages == []
        model.predict([usual, dense])
        model.predict([sparse])
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "1 of 2 clouds have a density far from that of training (clouds of 400 points), such as "
        "'1' with 1601",
        "1 of 1 clouds have a density far from that of training (clouds of 400 points), such as "
        "'0' with 99",
    ]


def test_fewer_points_than_the_model_sees_come_more_than_once(tmp_path: Path) -> None:
    model = exported(tmp_path / "model", Preprocessing(POINTS, "none"))
    few = np.random.default_rng(0).normal(size=(63, 3)).astype(np.float32)
    whole = np.concatenate([few, few[:1]])
    np.testing.assert_array_equal(model.predict([few]), model.predict([whole]))
    with pytest.raises(DataError, match="one cloud or more"):
        model.predict([])


def test_a_server_opens_no_file(tmp_path: Path) -> None:
    model = exported(tmp_path / "model", Preprocessing(POINTS, "none"))
    for asked in ("/etc/hostname", ["/etc/hostname"], [Path("/etc/hostname")]):
        with pytest.raises(DataError, match="expected points, got a text"):
            model.predict(asked)
