"""LAS and LAZ: points of surveys as they are, and files that announce what they have not."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import laspy
import numpy as np
import pytest

import sa3d
from sa3d.data.cloud_table import Cloud
from sa3d.data.readers import read
from sa3d.errors import DataError

PLACE = (5_412_000.0, 120.0, 3_300_000.0)
KINDS = ["las", "laz"]
# version and point format of the oldest and the newest files in use
VERSIONS = [("1.2", 0), ("1.2", 3), ("1.4", 6), ("1.4", 7)]


def survey(count: int = 1000) -> np.ndarray:
    """Points to the millimetre, which is the scale of the files here."""
    return np.round(np.random.default_rng(0).normal(PLACE, 10.0, (count, 3)), 3)


def packed(
    points: np.ndarray,
    kind: str,
    classes: object = None,
    version: str = "1.4",
    point_format: int = 6,
) -> bytes:
    header = laspy.LasHeader(point_format=point_format, version=version)
    header.scales, header.offsets = [0.001] * 3, list(PLACE)
    las = laspy.LasData(header)
    las.x, las.y, las.z = points.T
    if classes is not None:
        las.classification = classes
    buffer = io.BytesIO()
    las.write(buffer, do_compress=kind == "laz")
    return buffer.getvalue()


def cloud(data: bytes, kind: str) -> Cloud:
    found = read(data, kind)
    assert isinstance(found, Cloud)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("version", "point_format"), VERSIONS)
def test_points_as_surveyed(kind: str, version: str, point_format: int) -> None:
    points = survey()
    found = cloud(packed(points, kind, None, version, point_format), kind)
    assert found.points.dtype == np.float64
    np.testing.assert_allclose(found.points, points, rtol=0, atol=1e-6)
    assert found.parts is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("version", "point_format"), VERSIONS)
def test_classes_are_labels_where_there_are_any(kind: str, version: str, point_format: int) -> None:
    classes = np.arange(1000) % 7
    found = cloud(packed(survey(), kind, classes, version, point_format), kind)
    assert found.parts is not None
    np.testing.assert_array_equal(found.parts, classes)


@pytest.mark.parametrize("kind", KINDS)
def test_more_points_than_are_unpacked_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, classes = packed(survey(), kind, np.arange(1000) % 7), np.arange(1000) % 7
    monkeypatch.setattr("sa3d.data.readers.las._POINTS", 300)
    found = cloud(data, kind)
    np.testing.assert_allclose(found.points, survey(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.parts, classes)


@pytest.mark.parametrize("point_format", range(11))
def test_every_point_format_with_extra_bytes_and_several_chunks(point_format: int) -> None:
    header = laspy.LasHeader(point_format=point_format, version="1.4")
    header.scales, header.offsets = [0.001] * 3, list(PLACE)
    header.add_extra_dims(
        [laspy.ExtraBytesParams("height", "f8"), laspy.ExtraBytesParams("kind", "u1")]
    )
    las, points = laspy.LasData(header), survey(60_000)  # a chunk has 50 000
    las.x, las.y, las.z = points.T
    buffer = io.BytesIO()
    las.write(buffer, do_compress=point_format not in (4, 5))  # lazrs packs none of these
    found = cloud(buffer.getvalue(), "laz")
    np.testing.assert_allclose(found.points, points, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_survey_keeps_its_shape_for_the_model(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").write_bytes(packed(survey(1500), kind))
    encoder = sa3d.load_encoder()
    near = survey(1500) - PLACE
    wanted = encoder.embed(near)
    np.testing.assert_allclose(encoder.embed(tmp_path / f"a.{kind}"), wanted, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_points(kind: str) -> None:
    with pytest.raises(DataError, match=r"has shape \(0, 3\)"):
        read(packed(np.zeros((0, 3)), kind), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["1.2", "1.4"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.5, 0.9])
def test_a_cut_file_is_refused(kind: str, version: str, share: float) -> None:
    data = packed(survey(), kind, None, version, 0 if version == "1.2" else 6)
    with pytest.raises(DataError):
        read(data[: int(share * len(data))], kind)


def changed(data: bytes, place: int, layout: str, value: int) -> bytes:
    found = bytearray(data)
    struct.pack_into(layout, found, place, value)
    return bytes(found)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_a_header_that_cannot_be_true(kind: str) -> None:
    data = packed(survey(), kind, None, "1.2", 0)
    (start,) = struct.unpack_from("<I", data, 96)
    with pytest.raises(DataError, match="announces 4000000000 points"):
        read(changed(data, 107, "<I", 4_000_000_000), kind)
    with pytest.raises(DataError, match="announces 4000000000 records"):
        read(changed(data, 100, "<I", 4_000_000_000), kind)
    if kind == "laz":
        (table,) = struct.unpack_from("<q", data, start)
        with pytest.raises(DataError, match="announces 4000000000 packed chunks"):
            read(changed(data, table + 4, "<I", 4_000_000_000), kind)
        with pytest.raises(DataError, match="outside the file"):
            read(changed(data, start, "<q", 1 << 40), kind)
        # a few more than there are: unpacking ends early
        with pytest.raises(DataError, match="not a whole"):
            read(changed(data, 107, "<I", 90_000), kind)


def test_another_file_under_this_name() -> None:
    for data in (b"ply\n", b"\0" * 500, b"LASF"):
        with pytest.raises(DataError, match="does not begin with the header of a LAS file"):
            read(data, "las")
