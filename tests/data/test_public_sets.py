"""Public data sets in their official layouts: what is stored is what is in the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import official_layouts as layouts
import pytest

from sa3d.config.loading import load_source, source_names
from sa3d.data.descriptors import floor_accuracy
from sa3d.data.digest import content_digest
from sa3d.data.prepare import prepare
from sa3d.data.sources.modelnet40.settings import ModelNet40Source
from sa3d.data.sources.modelnet40_hdf5.settings import ModelNet40Hdf5Source
from sa3d.data.sources.modelnet_fewshot.settings import ModelNetFewshotSource
from sa3d.data.sources.scanobjectnn.settings import ScanObjectNNSource
from sa3d.data.sources.shapenet55.settings import ShapeNet55Source
from sa3d.data.sources.shapenetpart.settings import ShapeNetPartSource
from sa3d.data.store import TEST, TRAIN, VALIDATION, CloudSet, open_clouds
from sa3d.registry import SOURCES, load_at


def made(source: Any, tmp_path: Path, name: str = "x", **options: Any) -> CloudSet:
    """The prepared set, whole."""
    out = tmp_path / "processed" / f"{name}.h5"
    clouds = open_clouds(prepare(name, source, out, quiet=True, **options))
    assert content_digest(clouds) == clouds.digest
    assert sorted(each.name for each in out.parent.iterdir()) == [f"{name}.h5", f"{name}.json"]
    return clouds


def summary(clouds: CloudSet) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(clouds.path.with_suffix(".json").read_text())
    return found


def modelnet10(root: Path) -> ModelNet40Source:
    return ModelNet40Source(source="modelnet40", root=str(root), variant=10, points=None)


def class_of(clouds: CloudSet, row: int) -> str:
    return clouds.class_names[clouds.labels[row]]


def test_shapenet55(tmp_path: Path) -> None:
    written = layouts.write_shapenet55(tmp_path / "raw")
    clouds = made(ShapeNet55Source(source="shapenet55", root=str(tmp_path / "raw")), tmp_path)
    assert clouds.normalisation == "subsample"
    assert len(clouds) == len(written) == 9
    assert set(clouds.ids) == set(written)
    assert clouds.num_classes == 55
    for row, name in enumerate(clouds.ids):
        np.testing.assert_array_equal(clouds.cloud(row), written[name])
        kind = layouts.SYNSETS.index(name.partition("-")[0])
        assert class_of(clouds, row) == ("airplane", "chair", "table")[kind]
    assert [clouds.ids[row][-1] for row in clouds.indices(TEST)] == ["2", "2", "2"]
    assert clouds.flat_normals is None
    assert "Counts differ" in summary(clouds)["note"]


@pytest.mark.parametrize("nested", [False, True])
def test_modelnet40_as_text(nested: bool, tmp_path: Path) -> None:
    folder = tmp_path / "raw" / ("modelnet40_normal_resampled" if nested else "")
    written = layouts.write_modelnet40(folder)
    source = ModelNet40Source(source="modelnet40", root=str(tmp_path / "raw"), points=100)
    clouds = made(source, tmp_path)
    assert clouds.normalisation == "cloud"
    assert clouds.class_names == layouts.MODELNET40
    assert len(clouds) == len(written) == 80
    assert clouds.num_points == 100
    for row, name in enumerate(clouds.ids):
        file = folder / name.rpartition("_")[0] / f"{name}.txt"
        lines = file.read_text().splitlines()
        rows = np.array([[float(word) for word in line.split(",")] for line in lines], np.float32)
        rows = rows[farthest_by_hand(rows[:, :3], 100)]
        np.testing.assert_array_equal(clouds.cloud(row), rows[:, :3])
        np.testing.assert_array_equal(clouds.normals_of(row), rows[:, 3:])
        np.testing.assert_allclose(rows[0], written[name][0], atol=1e-6)
        assert class_of(clouds, row) == name.rpartition("_")[0]
        assert clouds.split[row] == (TEST if name.endswith("2") else TRAIN)
    assert 0.0 < summary(clouds)["descriptor_5nn_accuracy"] <= 1.0


def farthest_by_hand(points: np.ndarray, count: int) -> list[int]:
    """Greedy farthest points from the first one on."""
    chosen = [0]
    distance = ((points - points[0]) ** 2).sum(axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return chosen


def test_modelnet10_is_the_same_folder_with_its_own_lists(tmp_path: Path) -> None:
    written = layouts.write_modelnet40(tmp_path / "raw")
    root = str(tmp_path / "raw")
    source = ModelNet40Source(source="modelnet40", root=root, variant=10, points=None)
    clouds = made(source, tmp_path)
    assert clouds.class_names == layouts.MODELNET10
    assert len(clouds) == 20
    assert clouds.num_points == 200  # all of them
    for row, name in enumerate(clouds.ids):
        assert class_of(clouds, row) == name.rpartition("_")[0]
        np.testing.assert_allclose(clouds.cloud(row), written[name][:, :3], atol=1e-6)


@pytest.mark.parametrize("variant", [40, 10])
@pytest.mark.parametrize("protocol", [2, 4])
def test_modelnet_as_pickles(variant: Any, protocol: int, tmp_path: Path) -> None:
    written = layouts.write_modelnet40_dat(tmp_path / "raw", per_class=3, protocol=protocol)
    root = str(tmp_path / "raw")
    source = ModelNet40Source(source="modelnet40", root=root, variant=variant, form="dat")
    clouds = made(source, tmp_path)
    assert len(clouds) == 3 * variant
    for row, name in enumerate(clouds.ids):
        np.testing.assert_array_equal(clouds.cloud(row), written[f"{variant}-{name}"][:, :3])
        np.testing.assert_array_equal(clouds.normals_of(row), written[f"{variant}-{name}"][:, 3:])
        assert clouds.split[row] == (TEST if name.startswith("test") else TRAIN)
    assert clouds.labels[clouds.indices(TRAIN)].tolist() == np.repeat(range(variant), 2).tolist()
    assert clouds.labels[clouds.indices(TEST)].tolist() == list(range(variant))


def test_modelnet40_hdf5(tmp_path: Path) -> None:
    written = layouts.write_modelnet40_hdf5(tmp_path / "raw")
    source = ModelNet40Hdf5Source(source="modelnet40-hdf5", root=str(tmp_path / "raw"))
    clouds = made(source, tmp_path)
    assert clouds.normalisation == "cloud"
    assert clouds.class_names == layouts.MODELNET40
    assert clouds.labels.tolist() == list(range(40)) * 7
    assert (len(clouds.indices(TRAIN)), len(clouds.indices(TEST))) == (200, 80)
    for row, name in enumerate(clouds.ids):
        np.testing.assert_array_equal(clouds.cloud(row), written[name])


@pytest.mark.parametrize("variant", ["obj-bg", "obj-only", "pb-t50-rs"])
def test_scanobjectnn(variant: Any, tmp_path: Path) -> None:
    written = layouts.write_scanobjectnn(tmp_path / "raw")
    root = str(tmp_path / "raw")
    clouds = made(ScanObjectNNSource(source="scanobjectnn", root=root, variant=variant), tmp_path)
    assert clouds.normalisation == "none"
    assert clouds.class_names[:2] == ("bag", "bin")
    assert clouds.class_names[10:] == ("bed", "pillow", "sink", "sofa", "toilet")
    assert clouds.labels.tolist() == np.repeat(range(15), 2).tolist() * 2
    folder = "main_split_nobg" if variant == "obj-only" else "main_split"
    end = "_augmentedrot_scale75" if variant == "pb-t50-rs" else ""
    for row, name in enumerate(clouds.ids):
        split, number = name.split("-")
        stem = {"train": "training", "test": "test"}[split] + "_objectdataset" + end
        np.testing.assert_array_equal(clouds.cloud(row), written[f"{folder}/{stem}/{int(number)}"])


def test_shapenetpart(tmp_path: Path) -> None:
    written = layouts.write_shapenetpart(tmp_path / "raw")
    clouds = made(ShapeNetPartSource(source="shapenetpart", root=str(tmp_path / "raw")), tmp_path)
    assert clouds.normalisation == "cloud"
    assert clouds.class_names == tuple(layouts.CATEGORIES)
    assert len(clouds.part_names) == 50
    assert clouds.part_names[:5] == (
        "Airplane/0",
        "Airplane/1",
        "Airplane/2",
        "Airplane/3",
        "Bag/0",
    )
    assert clouds.class_parts[15] == (47, 48, 49)
    counts = [len(clouds.indices(split)) for split in (TRAIN, VALIDATION, TEST)]
    assert counts == [32, 16, 16]
    for row, name in enumerate(clouds.ids):
        np.testing.assert_allclose(clouds.cloud(row), written[name][:, :3], atol=1e-6)
        np.testing.assert_allclose(clouds.normals_of(row), written[name][:, 3:6], atol=1e-6)
        np.testing.assert_array_equal(clouds.parts(row), written[name][:, 6])
    assert clouds.num_points is None  # they differ in size


def test_shapes_in_two_lists_of_shapenetpart_are_in_the_later_one_alone(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    layouts.write_shapenetpart(root)
    lists = {
        s: root / "train_test_split" / f"shuffled_{s}_file_list.json"
        for s in ("train", "val", "test")
    }
    names = {split: json.loads(path.read_text()) for split, path in lists.items()}
    in_test, in_val = names["test"][0], names["val"][0]
    lists["train"].write_text(json.dumps([*names["train"], in_test, in_val]))
    lists["val"].write_text(json.dumps([*names["val"], names["test"][1]]))
    clouds = made(ShapeNetPartSource(source="shapenetpart", root=str(root)), tmp_path)
    split_of = dict(zip(clouds.ids, clouds.split.tolist(), strict=True))
    assert len(split_of) == 64
    assert split_of[in_test.removeprefix("shape_data/")] == TEST
    assert split_of[names["test"][1].removeprefix("shape_data/")] == TEST
    assert split_of[in_val.removeprefix("shape_data/")] == VALIDATION
    assert "3 shapes stand in two of the lists." in summary(clouds)["note"]


@pytest.mark.parametrize(("protocol", "underscore"), [(2, True), (4, False)])
def test_modelnet_fewshot(protocol: int, underscore: bool, tmp_path: Path) -> None:
    import pickle

    root = tmp_path / "raw"
    pool = layouts.write_modelnet_fewshot(
        root, points=20, tested=3, protocol=protocol, underscore=underscore
    )
    source = ModelNetFewshotSource(source="modelnet-fewshot", root=str(root))
    clouds = made(source, tmp_path)
    assert clouds.class_names == layouts.MODELNET40
    assert len(clouds) <= len(pool)  # every cloud once, though in many episodes
    assert len({clouds.cloud(row).tobytes() for row in range(len(clouds))}) == len(clouds)
    assert [episode.name for episode in clouds.episodes][:2] == ["5way-10shot-0", "5way-10shot-1"]
    assert len(clouds.episodes) == 40
    for episode in clouds.episodes:
        way, shot, fold = episode.name.split("-")
        folder = way.replace("way", "way_") + shot if underscore else way + shot
        item = pickle.loads((root / folder / f"{fold}.pkl").read_bytes())
        for part, rows, labels in (
            ("train", episode.train, episode.train_labels),
            ("test", episode.test, episode.test_labels),
        ):
            assert len(item[part]) == len(rows)
            for (points, label, kind), row, stored in zip(item[part], rows, labels, strict=True):
                np.testing.assert_array_equal(clouds.cloud(row), points[:, :3])
                np.testing.assert_array_equal(clouds.normals_of(row), points[:, 3:])
                assert (label, kind) == (stored, clouds.labels[row])
    facts = summary(clouds)
    assert len(facts["episodes_of_other_size"]) == 40  # 3 tested a class instead of 20
    assert facts["episode_members"] > len(clouds)


def test_a_cloud_twice_in_an_episode_is_two_clouds(tmp_path: Path) -> None:
    import pickle

    root = tmp_path / "raw"
    layouts.write_modelnet_fewshot(root, points=20, tested=3)
    path = root / "5way_10shot" / "0.pkl"
    item = pickle.loads(path.read_bytes())
    item["test"].append(item["train"][0])
    path.write_bytes(pickle.dumps(item))
    clouds = made(ModelNetFewshotSource(source="modelnet-fewshot", root=str(root)), tmp_path)
    episode = clouds.episode("5way-10shot-0")
    first, last = episode.train[0], episode.test[-1]
    assert clouds.ids[last] == f"{clouds.ids[first]}-2"
    np.testing.assert_array_equal(clouds.cloud(first), clouds.cloud(last))


@pytest.mark.parametrize(
    ("write", "source"),
    [
        (layouts.write_modelnet40, ModelNet40Source(source="modelnet40", root="raw", variant=10)),
        (layouts.write_shapenetpart, ShapeNetPartSource(source="shapenetpart", root="raw")),
    ],
)
def test_the_same_files_give_the_same_bytes_and_other_files_another_hash(
    write: Callable[..., Any], source: Any, tmp_path: Path
) -> None:
    def bytes_of(seed: int, name: str) -> tuple[bytes, str]:
        write(tmp_path / name, seed)
        moved = source.model_copy(update={"root": str(tmp_path / name)})
        clouds = made(moved, tmp_path / name)
        return clouds.path.read_bytes(), clouds.source_hash

    one, again, other = bytes_of(0, "a"), bytes_of(0, "b"), bytes_of(1, "c")
    assert one == again
    assert one[1] != other[1]


def test_line_ends_of_windows_change_nothing(tmp_path: Path) -> None:
    layouts.write_modelnet40(tmp_path / "a")
    layouts.write_modelnet40(tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    sets = [made(modelnet10(tmp_path / each), tmp_path / each) for each in "ab"]
    assert sets[0].digest == sets[1].digest
    assert sets[0].ids == sets[1].ids


def test_labels_of_any_integer_type(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    layouts.write_scanobjectnn(root)
    for name in ("training", "test"):
        with h5py.File(root / "main_split" / f"{name}_objectdataset.h5", "r+") as file:
            labels = file["label"][()]
            del file["label"]
            file["label"] = labels.astype(">u2")
    source = ScanObjectNNSource(source="scanobjectnn", root=str(root), variant="obj-bg")
    clouds = made(source, tmp_path)
    assert clouds.labels.dtype == np.int64
    assert clouds.labels.tolist() == np.repeat(range(15), 2).tolist() * 2


def test_every_source_says_what_it_is_and_every_public_set_is_in_params() -> None:
    kinds = set()
    for name in source_names():
        source = load_source(name)
        kinds.add(source.model_dump()["source"])
        about = type(source).about  # type: ignore[attr-defined]
        assert about.title
        assert about.licence
        assert about.obtain
    assert kinds == set(SOURCES) - {"folder"}  # what a user adds
    assert all(hasattr(load_at(each.settings), "about") for each in SOURCES.values())


@pytest.mark.filterwarnings("error")
def test_the_floor_of_few_clouds_in_many_classes_warns_of_nothing() -> None:
    rows, labels = np.eye(80, dtype=np.float32), np.tile(np.arange(40), 2)
    assert floor_accuracy(rows, labels, np.arange(40), np.arange(40, 80)) < 1.0
