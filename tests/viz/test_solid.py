"""Shapes drawn as solids: light, and what hides what."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from sa3d.data.preprocessing import unit_sphere_float64
from sa3d.data.sources.shapes.categories import CATEGORIES
from sa3d.data.sources.shapes.solids import Assembly
from sa3d.viz import clouds, solid
from sa3d.viz.style import DARK, LIGHT


def sheet(y: float, count: int = 30) -> np.ndarray:
    """A level square of count x count points at a height."""
    at = np.linspace(-0.5, 0.5, count)
    x, z = (grid.ravel() for grid in np.meshgrid(at, at))
    return np.stack([x, np.full_like(x, y), z], axis=1)


def test_a_level_surface_gets_the_light_from_above() -> None:
    level = solid.lightness(sheet(0.0))
    np.testing.assert_allclose(level, level[0], atol=1e-6)
    upright = solid.lightness(sheet(0.0)[:, [1, 0, 2]])
    assert level[0] > 0.7 > 0.5 > upright[0], "light comes from above"
    assert level.max() <= 1


def test_few_points_are_lit_too() -> None:
    for count in (1, 2, 5):
        light = solid.lightness(np.random.default_rng(0).normal(size=(count, 3)))
        assert light.shape == (count,)
        assert np.isfinite(light).all()


def test_what_lies_behind_is_hidden() -> None:
    upper, lower = sheet(0.05), sheet(-0.05)
    visible = solid.facing(clouds.view(np.concatenate([upper, lower])))
    middle = np.abs(upper[:, [0, 2]]).max(axis=1) < 0.15
    shown = np.zeros(2 * len(upper), dtype=bool)
    shown[visible] = True
    assert shown[: len(upper)][middle].mean() > 0.8
    assert shown[len(upper) :][middle].mean() < 0.2, "the lower sheet is behind the upper one"


@pytest.mark.parametrize("shape", ["chair", "cup"])
def test_no_part_that_is_seen_vanishes(shape: str) -> None:
    """Dots of what is shown cover whatever dots of all points would: a swivel chair, whose stem
    meets a seat and a foot, and an open cup, whose far wall is seen from within."""
    if shape == "cup":
        mesh = trimesh.creation.annulus(0.5, 0.53, 0.9)
        mesh.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    else:
        assembly = Assembly()
        CATEGORIES["chair"].build(assembly, np.random.default_rng((2, 0)))
        made = assembly.mesh(dict.fromkeys(CATEGORIES["chair"].parts, 0))
        mesh = trimesh.Trimesh(made.vertices, made.faces, process=False)
    points = unit_sphere_float64(trimesh.sample.sample_surface(mesh, 10000, seed=0)[0])
    projected = clouds.view(points)
    shown = solid.facing(projected)
    gaps = cKDTree(projected[shown, :2]).query(projected[:, :2])[0]
    assert gaps.max() < 0.06, "about the diameter of a dot"


def test_a_plane_seen_from_its_edge_is_all_there() -> None:
    flat = np.zeros((50, 3))
    flat[:, 0] = np.linspace(-1, 1, 50)
    assert solid.facing(flat).tolist() == list(range(50))


def test_tints_go_from_dark_to_bright_on_any_paper() -> None:
    for palette in (LIGHT, DARK):
        found = solid.tints(np.linspace(0, 1, 5), palette.link, palette)
        assert (np.diff(found.sum(axis=1)) > 0).all()
        assert found.min() >= 0
        assert found.max() <= 1
