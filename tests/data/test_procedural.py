"""The procedural source: solids whose inside is known, surfaces after booleans, stated shares."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sa3d.config.endless import digest_of
from sa3d.data.check import check, listed
from sa3d.data.endless import HELD_OUT, training_stream
from sa3d.data.prepare import prepare
from sa3d.data.sources.procedural import effects
from sa3d.data.sources.procedural.composing import JOININGS, Composition, compose, draw_recipe
from sa3d.data.sources.procedural.settings import ProceduralSource
from sa3d.data.sources.procedural.solids import (
    FLAT,
    PRIMITIVES,
    Array,
    Solid,
    circle,
    product,
    square,
    superprofile,
)
from sa3d.data.sources.procedural.source import generate, random_stream
from sa3d.data.sources.procedural.surface import sample
from sa3d.data.store import open_clouds

BOX = product(square(), FLAT)
BALL = product(circle(), superprofile(1.0))
POINTS = 20_000


def at(solid: Solid, scale: float, *centre: float) -> Solid:
    return solid.moved(np.eye(3) * scale, np.array(centre))


def surface_of(solids: tuple[Solid, ...], joining: str, cutters: int = 0) -> Array:
    whole = Composition(solids, joining, cutters)  # type: ignore[arg-type]
    found = sample(whole, POINTS, [], np.random.default_rng(0))
    assert found is not None
    return found


def share(which: np.ndarray) -> float:
    return float(which.mean())


# --- solids ------------------------------------------------------------------------------


def inside_by_rays(solid: Solid, points: Array) -> np.ndarray:
    """An oracle: how often a ray from each point crosses a triangle of the surface (Moeller and
    Trumbore 1997)."""
    a, b, c = (solid.vertices[solid.faces[:, i]] for i in range(3))
    direction = np.array([0.36, 0.48, 0.8])
    p = np.cross(direction, c - a)
    determinant = (p * (b - a)).sum(1)
    solid_faces = np.abs(determinant) > 1e-12
    a, b, c, p, determinant = (x[solid_faces] for x in (a, b, c, p, determinant))
    t = points[:, None] - a
    q = np.cross(t, b - a)
    u = (t * p).sum(2) / determinant
    v = (q @ direction) / determinant
    far = (q * (c - a)).sum(2) / determinant
    return ((u >= 0) & (v >= 0) & (u + v <= 1) & (far > 0)).sum(1) % 2 == 1


@pytest.mark.parametrize("name", PRIMITIVES)
def test_the_inside_of_a_solid_is_what_its_surface_encloses(name: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(6):
        solid = PRIMITIVES[name][1](rng)
        assert np.abs(solid.grid).max() <= 1.0 + 1e-12
        if solid.closed:
            points = rng.uniform(-1.0, 1.0, (200, 3))
            np.testing.assert_array_equal(solid.inside(points), inside_by_rays(solid, points))


# --- joining, on literal cases -------------------------------------------------------------


def test_a_box_without_its_corner() -> None:
    points = surface_of((BOX, at(BOX, 0.5, 1.0, 1.0, 1.0)), "difference", 1)
    assert not (points > 0.5 + 1e-9).all(axis=1).any()
    assert (points <= 1.0 + 1e-9).all()
    # three squares of the cutter's surface lie within, three are cut out of the body's
    new = np.isclose(points, 0.5).any(axis=1) & (points >= 0.5 - 1e-9).all(axis=1)
    assert share(new) == pytest.approx(0.75 / 24.0, abs=0.005)
    assert np.isclose(np.abs(points), 1.0).any(axis=1)[~new].all()


def test_a_box_without_a_ball_at_its_corner() -> None:
    points = surface_of((BOX, at(BALL, 0.8, 1.0, 1.0, 1.0)), "difference", 1)
    distance = np.linalg.norm(points - 1.0, axis=1)
    assert distance.min() > 0.8 * 0.97  # the middle of its flat faces lies so deep
    on_ball = distance < 0.8 * (1.0 + 1e-9)
    on_box = np.isclose(np.abs(points), 1.0).any(axis=1)
    assert (on_ball | on_box).all()
    ball, box = 4.0 * np.pi * 0.64 / 8.0, 24.0 - 3.0 * np.pi * 0.64 / 4.0
    assert share(~on_box) == pytest.approx(ball / (ball + box), rel=0.08)


def test_the_union_of_two_boxes_has_no_surface_within() -> None:
    points = surface_of((BOX, at(BOX, 1.0, 1.0, 0.0, 0.0)), "union")
    assert points[:, 0].min() == pytest.approx(-1.0)
    assert points[:, 0].max() == pytest.approx(2.0)
    deep = (np.abs(points[:, 1:]) < 0.9).all(axis=1) & (points[:, 0] > -0.9) & (points[:, 0] < 1.9)
    assert not deep.any()
    collage = surface_of((BOX, at(BOX, 1.0, 1.0, 0.0, 0.0)), "collage")
    # the two squares at x = 0 and x = 1, of 48 in all
    within = (np.abs(collage[:, 1:]) < 1.0 - 1e-9).all(axis=1) & (collage[:, 0] > -0.5)
    assert share(within & (collage[:, 0] < 1.5)) == pytest.approx(8.0 / 48.0, abs=0.01)


def test_the_intersection_of_two_boxes_is_their_common_box() -> None:
    points = surface_of((BOX, at(BOX, 1.0, 1.0, 1.0, 1.0)), "intersection")
    assert (points >= -1e-9).all()
    assert (points <= 1.0 + 1e-9).all()
    for axis in range(3):
        for side in (0.0, 1.0):
            assert share(np.isclose(points[:, axis], side)) == pytest.approx(1 / 6, abs=0.02)


def test_points_are_uniform_by_area_whatever_the_map() -> None:
    flat = BOX.moved(np.diag([2.0, 0.1, 1.0]), np.zeros(3))
    points = surface_of((flat,), "collage")
    areas = np.array([0.8, 16.0, 1.6])  # of the two faces across x, y and z; 18.4 in all
    ends = np.array([2.0, 0.1, 1.0])
    found = [share(np.isclose(np.abs(points[:, i]), ends[i])) for i in range(3)]
    np.testing.assert_allclose(found, areas / areas.sum(), atol=0.01)


def test_a_wireframe_lies_along_edges() -> None:
    points = surface_of((BOX,), "wireframe")
    near = np.abs(np.abs(points) - 1.0) < 0.06  # a wire is thin, but not a line
    assert (near.sum(axis=1) >= 2).all()
    for axis in range(3):  # four of the twelve edges run along each axis
        assert share(~near[:, axis]) == pytest.approx(0.94 / 3, abs=0.02)


# --- effects -------------------------------------------------------------------------------


def test_one_view_shows_half_of_a_ball() -> None:
    whole = Composition((BALL,), "collage")
    rng = np.random.default_rng(1)
    points = sample(whole, 4000, [effects.one_view(whole, rng)], rng)
    assert points is not None
    away = points.mean(axis=0)
    assert share(points @ away > -0.1 * np.linalg.norm(away)) > 0.95


def test_a_cut_leaves_one_side_of_a_plane() -> None:
    whole = Composition((BALL,), "collage")
    keep = effects.plane_cut(whole, np.random.default_rng(1))
    every = surface_of((BALL,), "collage")
    kept, gone = every[keep(every)], every[~keep(every)]
    normal = gone.mean(axis=0) / np.linalg.norm(gone.mean(axis=0))
    assert len(gone) > 0.03 * POINTS
    assert len(kept) > len(gone)
    # the plane lies across the mean of what is gone, but for the noise of that mean
    assert (kept @ normal).max() < (gone @ normal).min() + 0.05


def test_density_is_uneven_by_what_is_stated() -> None:
    whole = Composition((BOX,), "collage")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        keep = effects.uneven(whole, rng)
        every = surface_of((BOX,), "collage")
        assert 0.1 < share(keep(every)) < 0.9


# --- clouds --------------------------------------------------------------------------------


def test_a_cloud_depends_on_seed_stream_and_number_alone() -> None:
    source = ProceduralSource(points=128)
    together = generate(source, 1, range(40))
    alone = generate(source, 1, [17])
    np.testing.assert_array_equal(together.points[17], alone.points[0])
    backwards = generate(source, 1, range(39, -1, -1))
    np.testing.assert_array_equal(together.points, backwards.points[::-1])
    np.testing.assert_array_equal(together.labels, backwards.labels[::-1])
    others = (
        generate(source, 2, range(40)),
        generate(source, HELD_OUT, range(40)),
        generate(ProceduralSource(points=128, seed=1), 1, range(40)),
    )
    for other in others:
        assert not (other.points == together.points).all(axis=(1, 2)).any()


def test_the_bytes_stay_what_they_are() -> None:
    """Another hash: raise GENERATOR_VERSION, as every run trained on these clouds is another."""
    source = ProceduralSource()
    recipes = [draw_recipe(source, random_stream(source, 1, number)) for number in range(200)]
    assert hashlib.sha256(repr(recipes).encode()).hexdigest()[:16] == "42bfdadf0e9e6032"


def test_streams_of_runs_and_the_held_out_one_are_apart() -> None:
    assert HELD_OUT not in {training_stream(seed) for seed in (0, 1, 2**32 - 1)}
    assert len({training_stream(seed) for seed in range(100)}) == 100


def test_two_thousand_clouds_are_all_different_and_fill_the_sphere() -> None:
    source = ProceduralSource(points=64)
    made = generate(source, training_stream(0), range(2000))
    assert np.isfinite(made.points).all()
    assert len({each.tobytes() for each in made.points}) == 2000
    radii = np.linalg.norm(made.points, axis=2).max(axis=1)
    np.testing.assert_allclose(radii, 1.0, atol=1e-5)
    np.testing.assert_allclose(made.points.mean(axis=1), 0.0, atol=1e-5)
    # long ones, flat ones and round ones: the share of variance along the principal axes
    variance = np.linalg.svd(made.points - made.points.mean(1, keepdims=True))[1] ** 2
    variance /= variance.sum(axis=1, keepdims=True)
    long, flat = variance[:, 0], variance[:, 2]
    assert np.quantile(long, 0.05) < 0.47
    assert np.quantile(long, 0.95) > 0.8
    assert np.quantile(flat, 0.05) < 0.02
    assert np.quantile(flat, 0.95) > 0.2
    # no cloud is a point or a line
    assert (variance[:, 1] > 1e-4).mean() > 0.99


def test_everything_happens_as_often_as_stated() -> None:
    source = ProceduralSource()
    count = 6000
    recipes = [draw_recipe(source, random_stream(source, 1, number)) for number in range(count)]
    stated = {name: getattr(source, name) for name in JOININGS[1:]}
    found = {n: np.mean([recipe.joining == n for recipe in recipes]) for n in stated}
    flags = ("repeats", "cut", "partial_view", "density", "dents", "displacement", "deformation")
    for name in (*flags, "noise"):
        stated[name] = getattr(source, name)
        found[name] = np.mean([getattr(recipe, name) for recipe in recipes])
    for name, wanted in stated.items():
        assert abs(found[name] - wanted) < 4.0 * np.sqrt(wanted * (1 - wanted) / count), name
    assert {recipe.primitives for recipe in recipes} == set(range(1, 10))


def test_what_is_switched_off_never_happens() -> None:
    off = dict.fromkeys(
        [*JOININGS[1:], "repeats", "cut", "partial_view", "density", "dents", "displacement"], 0.0
    )
    source = ProceduralSource(primitives=1, deformation=0.0, noise=0.0, points=64, **off)
    for number in range(50):
        rng = random_stream(source, 1, number)
        recipe = draw_recipe(source, rng)
        assert (recipe.joining, recipe.primitives, recipe.noise) == ("collage", 1, False)
        assert len(compose(recipe, rng).solids) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"primitives": 10}, "primitives"),
        ({"noise": 1.5}, "noise"),
        ({"noise_sd": 0.2}, "less than or equal to 0.1"),
        ({"clouds_per_epoch": 0}, "greater than 0"),
        ({"points": 8}, "greater than or equal to 64"),
        ({"union": 0.9}, "union=0.9.*1.35 together"),
    ],
)
def test_a_wrong_setting_is_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ProceduralSource.model_validate(values)


# --- as a data set -------------------------------------------------------------------------


def test_it_is_usable_without_a_file_and_has_a_digest(tmp_path: Path) -> None:
    source = ProceduralSource()
    out = tmp_path / "procedural.h5"
    found = check("procedural", source, out)
    assert (found.fine, found.raw_state, found.processed.state) == (True, "generated", "endless")
    assert found.processed.facts["digest"] == digest_of(source)
    assert digest_of(source) != digest_of(ProceduralSource(noise_sd=0.01))
    assert listed("procedural", source, out).processed == "endless"


def test_a_file_for_looking_at(tmp_path: Path) -> None:
    source = ProceduralSource(held_out=12, points=128)
    clouds = open_clouds(prepare("p", source, tmp_path / "p.h5", quiet=True))
    held = generate(source, HELD_OUT, range(12))
    np.testing.assert_array_equal(clouds.cloud(12), held.points[0])
    assert (clouds.split == [0] * 12 + [1] * 12).all()
    assert clouds.class_names == JOININGS
