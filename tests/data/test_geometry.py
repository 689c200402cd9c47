"""Moments of surfaces against integrals done by hand and by sampling, and what they tell apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sa3d.data.geometry import ALIKE, SAME, distance, invariants, likeness, moments
from sa3d.data.mesh import Mesh, sample_surface

_QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))

Points = NDArray[np.float64]


def boxes(*bounds: tuple[tuple[float, ...], tuple[float, ...]]) -> Mesh:
    """Boxes between two corners each, all in one mesh."""
    vertices, faces = [], []
    for low, high in bounds:
        for a, b, c, d in np.array(_QUADS) + len(vertices):
            faces += [(a, b, c), (a, c, d)]
        pick = (low, high)
        vertices += [
            (pick[i][0], pick[j][1], pick[k][2]) for i in (0, 1) for j in (0, 1) for k in (0, 1)
        ]
    return Mesh(np.array(vertices, float), np.array(faces), np.zeros(len(faces), np.int64))


def dual_in_line(pins: int, mark: float = 1.0) -> Mesh:
    """A case on two rows of pins, and a mark on its top beside the first pin."""
    length = 2.54 * pins / 2
    case = ((0.0, -3.0, 0.5), (length, 3.0, 4.0))
    feet = [
        ((x, y - 0.25, -3.0), (x + 0.5, y + 0.25, 1.0))
        for x in 1.0 + 2.54 * np.arange(pins // 2)
        for y in (-3.8, 3.8)
    ]
    return boxes(case, *feet, ((0.5, mark, 4.0), (1.5, mark + 1.0, 4.4)))


def moved(mesh: Mesh, rotation: Rotation, scale: float = 1.0) -> Mesh:
    points = rotation.apply(mesh.vertices) * scale + (3.0, -70.0, 11.0)
    return Mesh(points, mesh.faces, mesh.parts)


def shuffled(mesh: Mesh) -> Mesh:
    """Other order of faces and of vertices, every face with vertices of its own."""
    rng = np.random.default_rng(5)
    soup = rng.permutation(len(mesh.faces) * 3)
    vertices = np.empty((len(soup), 3))
    vertices[soup] = mesh.vertices[mesh.faces].reshape(-1, 3)
    faces = rng.permutation(soup.reshape(-1, 3))
    return Mesh(np.concatenate((vertices, [[99.0, 0.0, 0.0]])), faces, mesh.parts)


def finer(mesh: Mesh) -> Mesh:
    """Every triangle cut into three of unlike size, and one without area added."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    inner = 0.5 * a + 0.2 * b + 0.3 * c
    soup = np.concatenate([np.stack(t, 1) for t in ((a, b, inner), (b, c, inner), (c, a, inner))])
    soup = np.concatenate((soup, np.full((1, 3, 3), 50.0)))
    return Mesh(
        soup.reshape(-1, 3), np.arange(len(soup) * 3).reshape(-1, 3), np.zeros(len(soup), int)
    )


def printed(mesh: Mesh, decimals: int = 4) -> Mesh:
    return Mesh(mesh.vertices.round(decimals), mesh.faces, mesh.parts)


def mirrored(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices * (1.0, -1.0, 1.0), mesh.faces[:, ::-1], mesh.parts)


SKEW = Rotation.from_rotvec((0.4, -1.1, 0.7))
PART = dual_in_line(14)


# --- moments -----------------------------------------------------------------------------


def test_moments_of_a_cube_by_hand() -> None:
    """Over the surface of |x| <= 1, x is 1 on two faces and uniform on four: the mean of x^2 is
    (2 + 4/3) / 6 = 5/9, of x^4 (2 + 4/5) / 6 = 7/15, of x^2 y^2 (4/3 + 2/9) / 6 = 7/27."""
    cube = moments(boxes(((-1.0,) * 3, (1.0,) * 3)))
    assert cube.radius == pytest.approx(np.sqrt(3.0 / (5 / 3)))
    np.testing.assert_allclose(cube.second, np.eye(3) / 3, atol=1e-12)
    np.testing.assert_allclose(cube.third, 0.0, atol=1e-12)
    fourth = cube.fourth.reshape(3, 3, 3, 3) * (5 / 3) ** 2
    assert np.einsum("iijj", fourth) == pytest.approx(3 * 7 / 15 + 6 * 7 / 27)


def test_moments_agree_with_sampling_of_the_surface() -> None:
    points = sample_surface(PART, 400_000, np.random.default_rng(0))[0]
    points = points - points.mean(axis=0)
    points /= np.sqrt((points**2).sum(axis=1).mean())
    exact = moments(PART)
    values, axes = np.linalg.eigh(np.cov(points.T, bias=True))
    np.testing.assert_allclose(np.diag(exact.second), values, atol=4e-3)
    points = points @ axes
    pairs = np.einsum("ni,nj->nij", points, points).reshape(-1, 9)
    np.testing.assert_allclose(
        np.abs(exact.third), np.abs(points.T @ pairs) / len(points), atol=1e-2
    )
    np.testing.assert_allclose(
        np.abs(exact.fourth), np.abs(pairs.T @ pairs) / len(points), atol=2e-2
    )


# --- what is told apart --------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda mesh: moved(mesh, SKEW),
        lambda mesh: moved(mesh, Rotation.identity(), 0.03937),
        shuffled,
        finer,
        printed,
        lambda mesh: printed(finer(shuffled(moved(mesh, SKEW, 2.0)))),
    ],
)
def test_the_same_geometry(change: Callable[[Mesh], Mesh]) -> None:
    assert distance(moments(PART), moments(change(PART))) < SAME


@pytest.mark.parametrize("angle", np.linspace(0.0, 90.0, 8))
def test_turned_about_an_axis_of_symmetry_or_nearly_so(angle: float) -> None:
    """Principal axes are arbitrary, or swap places, where principal moments are equal."""
    for side in (6.0, 6.0 + 1e-6, 6.01):
        square = boxes(((0, 0, 0), (side, 6, 1)), ((1, 1, 1), (2, 2, 1.1)))
        turned = moved(square, Rotation.from_rotvec((0, 0, np.radians(angle))))
        assert distance(moments(square), moments(turned)) < SAME


@pytest.mark.parametrize("angle", [1.5, 20.0, 45.0, 46.0])
def test_upside_down_is_not_taken_for_the_best_rotation(angle: float) -> None:
    """A square table whose top and bottom are nearly alike: turned by a few degrees it looks less
    like itself than upside down."""
    legs = [((x, y, -2), (x + 0.6, y + 0.6, 0)) for x in (-2.3, 1.7) for y in (-2.3, 1.7)]
    table = boxes(((-3, -3, 0), (3, 3, 1)), *legs)
    turned = moved(table, Rotation.from_rotvec((0, 0, np.radians(angle))))
    assert distance(moments(table), moments(turned)) < SAME


@pytest.mark.parametrize("pins", [8, 14, 40, 64])
def test_one_pin_more_is_another_part(pins: int) -> None:
    assert distance(moments(dual_in_line(pins)), moments(dual_in_line(pins + 2))) > 2 * ALIKE


def test_a_part_short_of_one_pin_is_another() -> None:
    """One of 40, the case the same."""
    whole = dual_in_line(40)
    faces = np.concatenate((whole.faces[:-24], whole.faces[-12:]))  # the mark comes last
    short = Mesh(whole.vertices, faces, np.zeros(len(faces), np.int64))
    assert distance(moments(whole), moments(short)) > 2 * ALIKE


def test_a_mirror_image_is_alike_and_not_the_same() -> None:
    shapes = [moments(mesh) for mesh in (PART, mirrored(PART), moved(mirrored(PART), SKEW))]
    found = likeness(shapes)
    assert distance(shapes[0], shapes[1]) > SAME
    assert found.same[1] == found.same[2] != found.same[0]
    assert len(set(found.alike)) == 1


def test_a_symmetric_shape_is_its_own_mirror_image() -> None:
    symmetric = dual_in_line(14, mark=-0.5)
    assert distance(moments(symmetric), moments(mirrored(symmetric))) < SAME


def test_likeness_of_many() -> None:
    """Copies in any order; equal numbers for equal geometry and no others."""
    parts = [dual_in_line(pins) for pins in (6, 8, 10, 12)]
    meshes = [
        moved(part, Rotation.random(random_state=i), 1.0 + i) for i in range(3) for part in parts
    ]
    order = np.random.default_rng(0).permutation(len(meshes))
    found = likeness([moments(meshes[i]) for i in order])
    for numbers in (found.same, found.alike):
        np.testing.assert_array_equal(numbers[:, None] == numbers, order[:, None] % 4 == order % 4)


@pytest.mark.parametrize("count", [0, 1])
def test_likeness_of_hardly_any(count: int) -> None:
    found = likeness([moments(PART)] * count)
    assert found.same.tolist() == found.alike.tolist() == list(range(count))


def test_invariants_never_part_what_distance_holds_together() -> None:
    """Each differs by no more than the distance, so that no pair of near shapes goes unseen."""
    rng = np.random.default_rng(2)
    for scale in (1e-4, 1e-2, 1.0):
        for _ in range(10):
            vertices = rng.normal(size=(12, 3))
            faces = rng.permutation(12).reshape(4, 3)
            first = Mesh(vertices, faces, np.zeros(4, np.int64))
            other = Mesh(vertices + scale * rng.normal(size=(12, 3)), faces, first.parts)
            a, b = moments(first), moments(moved(other, SKEW))
            assert np.abs(invariants(a) - invariants(b)).max() <= distance(a, b) + 1e-9
            mirror = moments(mirrored(other))
            np.testing.assert_allclose(invariants(b), invariants(mirror), atol=1e-9)
