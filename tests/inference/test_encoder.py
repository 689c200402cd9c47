"""Embedding by the Python API: arrays, files and meshes of any size, and what is refused."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

import sa3d
from sa3d import registry
from sa3d.data.preprocessing import Axis, Preprocessing, upright
from sa3d.errors import CheckpointError, DataError
from sa3d.inference.clouds import _BATCH_POINTS, Read, batched
from sa3d.inference.encoder import Encoder
from sa3d.inference.locating import BOXED


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return sa3d.load_encoder()


def normal(count: int = 1024, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def test_three_lines(tmp_path: Path) -> None:
    trimesh.creation.icosphere().export(tmp_path / "a.ply")
    code = (
        "import sys, numpy as np\n"
        "import sa3d\n"
        "heavy = [m for m in ('torch', 'numpy.ma', 'h5py') if m in sys.modules]\n"
        "encoder = sa3d.load_encoder()\n"
        f"features = encoder.embed([{str(tmp_path / 'a.ply')!r}, np.eye(3).repeat(400, 0)])\n"
        "print(features.shape, features.dtype, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 192) float32 []\n"


def test_only_what_is_offered_is_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_encodr'"):
        sa3d.load_encodr  # noqa: B018


def test_what_may_be_given(encoder: Encoder, tmp_path: Path) -> None:
    clouds = np.stack([normal(seed=1), normal(seed=2)])
    wanted = encoder.embed(clouds)
    np.testing.assert_allclose(encoder.embed(list(clouds)), wanted, atol=1e-5)
    np.testing.assert_allclose(encoder.embed(clouds[0]), wanted[:1], atol=1e-5)
    np.save(tmp_path / "a.npy", clouds[1])
    for given in (tmp_path / "a.npy", str(tmp_path / "a.npy"), [str(tmp_path / "a.npy")]):
        np.testing.assert_allclose(encoder.embed(given), wanted[1:], atol=1e-5)


def test_a_cloud_has_the_same_features_whatever_is_beside_it(encoder: Encoder) -> None:
    clouds = [normal(count, count) for count in (2, 40, 1023, 1024, 1025, 5000)]
    together = encoder.embed(clouds)
    for cloud, row in zip(clouds, together, strict=True):
        np.testing.assert_allclose(encoder.embed(cloud)[0], row, atol=1e-4)


def test_fewer_points_are_all_there_and_some_twice() -> None:
    few = normal(5)
    seen = Preprocessing(8, "none").cloud(few).numpy()
    np.testing.assert_array_equal(seen, few[[0, 1, 2, 3, 4, 0, 1, 2]])


@pytest.mark.parametrize("kind", ["off", "obj", "stl", "ply", "glb"])
def test_a_mesh_gives_the_same_features_every_time(
    encoder: Encoder, tmp_path: Path, kind: str
) -> None:
    box = trimesh.creation.box(extents=(1, 2, 3))
    path = tmp_path / f"a.{kind}"
    box.export(path)
    once = encoder.embed(path)
    np.testing.assert_array_equal(encoder.embed(path), once)
    # another draw of the same surface: nearer than another shape
    near = encoder.embed(np.asarray(box.sample(1024, seed=5)))
    far = encoder.embed(np.asarray(trimesh.creation.icosphere().sample(1024, seed=5)))
    assert np.linalg.norm(near - once) < 0.5 * np.linalg.norm(far - once)


def test_place_and_size_do_not_matter_also_far_from_the_origin(encoder: Encoder) -> None:
    """Coordinates of a survey: float32 would round them to half a metre."""
    cloud = normal().astype(np.float64)
    moved = cloud * 0.3 + (5_412_000.0, 120.0, 3_300_000.0)
    np.testing.assert_allclose(encoder.embed(moved), encoder.embed(cloud), atol=1e-3)


@pytest.mark.parametrize(
    ("up", "points"),
    [("y", [[1, 2, 3]]), ("z", [[1, -3, 2]]), ("x", [[2, -1, 3]])],
)
def test_the_axis_that_points_up_becomes_y_without_a_mirror(
    encoder: Encoder, up: Axis, points: list[list[float]]
) -> None:
    assert upright(np.array(points), up).tolist() == [[1, 2, 3]]
    assert np.linalg.det(upright(np.eye(3), up)) == pytest.approx(1.0)
    cone = np.asarray(trimesh.creation.cone(0.5, 2.0).sample(1024, seed=0))  # points along z
    turned = encoder.embed(upright(cone, up))
    np.testing.assert_allclose(encoder.embed(cone, up=up), turned, atol=1e-4)


def test_unusual_density_is_told_in_one_line(
    encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        encoder.embed([normal(256), normal(4096)])
        assert caplog.messages == []
        encoder.embed([normal(), normal(255), normal(4097)])
    assert caplog.messages == [
        "2 of 3 clouds have a density far from that of training (clouds of 1024 points), such as "
        "'1' with 255: what the model says of them may be of less use"
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 2)), r"has shape \(4, 2\), expected \(points, 3\)"),
        (np.zeros(3), r"expected clouds \(B, n, 3\) or \(n, 3\)"),
        (np.zeros((0, 3)), "degenerate: its 0 points"),
        (np.ones((1, 3)), "degenerate: its 1 points"),
        (np.ones((9, 3)), "all equal"),
        (np.array([[0, 0, 0], [1, np.nan, 0]]), "non-finite point .* in row 1"),
        (np.array([[0, 0, 0], [1, np.inf, 0]]), "non-finite point .* in row 1"),
        ([], "one cloud or more, got none"),
        ("gone.ply", "gone.ply: cannot be opened"),
    ],
)
def test_what_is_no_cloud_is_refused(encoder: Encoder, given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encoder.embed(given)  # type: ignore[arg-type]


def test_what_can_be_read_is_embedded_and_the_rest_is_named(encoder: Encoder) -> None:
    found = encoder.embed_all([normal(), np.zeros((0, 3)), "gone.ply", normal(seed=1)])
    assert found.ids == ("0", "3")
    assert found.features.shape == (2, 192)
    assert [failure.id for failure in found.failures] == ["1", "gone.ply"]
    nothing = encoder.embed_all(["gone.ply"])
    assert (nothing.ids, nothing.features.shape) == ((), (0, 192))


def test_batches_are_bounded_in_points() -> None:
    large = np.zeros((_BATCH_POINTS // 2, 3), dtype=np.float32)
    small = np.zeros((1, 3), dtype=np.float32)
    given = [("a", small)] * 65 + [("b", large)] * 3 + [("c", small)]
    batches = list(batched(Read(name, cloud, cloud) for name, cloud in given))
    assert [each.id for batch in batches for each in batch] == [name for name, _ in given]
    assert [len(batch) for batch in batches] == [64, 2, 2, 1]
    for batch in batches:
        assert len(batch) * max(len(each.cloud) for each in batch) <= _BATCH_POINTS


def test_a_model_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(CheckpointError, match=r"a\.pth is a file; .* `sa3d convert`"):
        sa3d.load_encoder(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no exported model in"):
        sa3d.load_encoder(tmp_path)
    assert sa3d.load_encoder(BOXED).card == sa3d.load_encoder(str(BOXED)).card


def test_a_reader_whose_library_is_missing_is_not_a_damaged_file(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimesh.creation.box().export(tmp_path / "a.stl")

    def lacks(data: bytes) -> None:
        raise ModuleNotFoundError("No module named 'trimesh'", name="trimesh")

    monkeypatch.setitem(registry.READERS, "stl", f"{__name__}:lacking")
    monkeypatch.setitem(globals(), "lacking", lacks)
    with pytest.raises(ModuleNotFoundError, match="trimesh"):
        encoder.embed(tmp_path / "a.stl")
