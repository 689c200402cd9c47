"""Trees of the layouts of public data sets, and what may be wrong with each."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import official_layouts as layouts

from sa3d.config.base import Frozen
from sa3d.data.raw import RawCheck
from sa3d.data.sources.modelnet40.settings import ModelNet40Source
from sa3d.data.sources.modelnet40_hdf5.settings import ModelNet40Hdf5Source
from sa3d.data.sources.modelnet_fewshot.settings import ModelNetFewshotSource
from sa3d.data.sources.scanobjectnn.settings import ScanObjectNNSource
from sa3d.data.sources.shapenet55.settings import ShapeNet55Source
from sa3d.data.sources.shapenetpart.settings import ShapeNetPartSource
from sa3d.registry import SOURCES, load_at

Damage = Callable[[Path], None]
SYNSET = layouts.SYNSETS[0]
MODELNET10 = {"variant": 10, "points": None}
KINDS: dict[str, tuple[Callable[..., Any], type[Frozen], dict[str, Any]]] = {
    "shapenet55": (layouts.write_shapenet55, ShapeNet55Source, {}),
    "modelnet40": (layouts.write_modelnet40, ModelNet40Source, MODELNET10),
    "dat": (layouts.write_modelnet40_dat, ModelNet40Source, MODELNET10 | {"form": "dat"}),
    "hdf5": (layouts.write_modelnet40_hdf5, ModelNet40Hdf5Source, {}),
    "fewshot": (layouts.write_modelnet_fewshot, ModelNetFewshotSource, {}),
    "scan": (layouts.write_scanobjectnn, ScanObjectNNSource, {"variant": "obj-bg"}),
    "part": (layouts.write_shapenetpart, ShapeNetPartSource, {}),
}


def tree(kind: str, root: Path) -> Frozen:
    """A small tree of the layout, and the settings that read it."""
    write, settings, values = KINDS[kind]
    small = {"points": 20, "tested": 2} if kind == "fewshot" else {}
    write(root, **small)
    name = settings.model_fields["source"].default
    return settings(source=name, root=str(root), **values)


def check_raw(source: Frozen) -> RawCheck:
    module = SOURCES[source.model_dump()["source"]].where.partition(":")[0]
    found: RawCheck = load_at(f"{module}:check_raw")(source)
    return found


def edit(path: Path, change: Callable[[list[str]], None]) -> None:
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


def in_lines(name: str, at: int, text: str) -> Damage:
    """Replace a line of a file."""

    def damage(root: Path) -> None:
        edit(root / name, lambda lines: lines.__setitem__(at, text))

    return damage


def cut(name: str, share: float = 0.5) -> Damage:
    def damage(root: Path) -> None:
        data = (root / name).read_bytes()
        (root / name).write_bytes(data[: int(len(data) * share)])

    return damage


def written(name: str, data: bytes) -> Damage:
    def damage(root: Path) -> None:
        (root / name).write_bytes(data)

    return damage


def pickled(name: str, value: object) -> Damage:
    return written(name, pickle.dumps(value))


def array(name: str, value: np.ndarray, **options: Any) -> Damage:
    return lambda root: np.save(root / name, value, **options)


def hdf5(name: str, key: str, value: Any, at: Any = ...) -> Damage:
    def damage(root: Path) -> None:
        with h5py.File(root / name, "r+") as file:
            if at is ...:
                del file[key]
                if value is not None:
                    file[key] = value
            else:
                file[key][at] = value

    return damage


def loop(name: str) -> Damage:
    def damage(root: Path) -> None:
        path = root / name
        path.unlink()
        path.symlink_to(path.with_suffix(".other"))
        path.with_suffix(".other").symlink_to(path)

    return damage


def listed(name: str, extra: str) -> Damage:
    """An entry more in a JSON list."""

    def damage(root: Path) -> None:
        entries = json.loads((root / name).read_text())
        (root / name).write_text(json.dumps([*entries, extra]))

    return damage


def folder(name: str) -> Damage:
    """A folder in the place of a file."""

    def damage(root: Path) -> None:
        (root / name).unlink()
        (root / name).mkdir()

    return damage


def group(name: str, key: str) -> Damage:
    """A group in the place of an array."""

    def damage(root: Path) -> None:
        with h5py.File(root / name, "r+") as file:
            del file[key]
            file.create_group(key)

    return damage


class Harm:
    def __reduce__(self) -> Any:
        return os.system, ("touch harm",)


PC = f"shapenet_pc/{SYNSET}-{0:032x}.npy"
BED = "bed/bed_0001.txt"
ROW = "0.1,0.2,0.3,0,1,0"
CAR = f"02958343/{0:032x}.txt"
TRAIN_LIST = "train_test_split/shuffled_train_file_list.json"
H5 = "ply_data_train0.h5"
OBJ = "main_split/test_objectdataset.h5"
DAT = "modelnet10_train_8192pts_fps.dat"
PKL = "5way_10shot/3.pkl"
NANS = np.full((9, 3), np.nan, dtype=np.float32)
ONE = [np.random.default_rng(0).normal(size=(9, 6))]
NO_LITERAL = b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': ((".ljust(117) + b"\n"
CASES: list[tuple[str, Damage, str]] = [
    ("modelnet40", in_lines(BED, 4, "0.1,0.2,0.3"), "0001.txt: row 5 has 3 numbers, expected 6"),
    ("modelnet40", in_lines(BED, 4, "0.1 0.2 0.3 0 0 1"), "row 5 has 1 numbers, expected 6"),
    ("modelnet40", lambda r: edit(r / BED, lambda x: x.__setitem__(slice(None), ["1,2,3"] * 9)),
     "row 1 has 3 numbers, expected 6"),
    ("modelnet40", in_lines(BED, 6, "0.1,x,0.3,0,0,1"), r"row 7 has 'x', which is no number"),
    ("modelnet40", in_lines(BED, 6, "0.1,nan,0.3,0,0,1"), "bed_0001.txt: row 7 is not finite"),
    ("modelnet40", in_lines(BED, 6, "0.1,1e99,0.3,0,0,1"), "row 7 is not finite"),
    ("modelnet40", in_lines(BED, 6, "0.1,,0.3,0,0,1"), "row 7 has '', which is no number"),
    ("modelnet40", written(BED, b""), "bed_0001.txt is empty"),
    ("modelnet40", written(BED, b"\x89PNG\xff"), "bed_0001.txt is not a text file"),
    ("modelnet40", written(BED, (ROW + "\n").encode() * 9), "degenerate"),
    ("modelnet40", loop(BED), "bed_0001.txt: symbolic links lead in a circle"),
    ("modelnet40", in_lines("modelnet10_train.txt", 1, "zebra_0001"), "'zebra_0001' is of none"),
    ("modelnet40", in_lines("modelnet10_train.txt", 1, "../bed_1"), "not an entry of the official"),
    ("modelnet40", in_lines("modelnet10_test.txt", 1, "bed_0001"),
     "'bed_0001' is in modelnet10_train.txt and in modelnet10_test.txt"),
    ("modelnet40", in_lines("modelnet10_train.txt", 0, "bed_0001"), "stands there 2 times"),
    ("modelnet40", in_lines("modelnet10_shape_names.txt", 0, "bed"), "stands there 2 times"),
    ("modelnet40", written("modelnet10_train.txt", b"\n\n"), "modelnet10_train.txt is empty"),
    ("shapenet55", cut(PC), r"npy is truncated or no NumPy array"),
    ("shapenet55", written(PC, b"PK\x03\x04no"), "npy is truncated or no NumPy array"),
    ("shapenet55", written(PC, b""), "npy is truncated or no NumPy array"),
    ("shapenet55", array(PC, NANS), "row 1 is not finite"),
    ("shapenet55", array(PC, np.zeros((9, 4))), r"\(9, 4\)\), expected .* \(points, 3\)"),
    ("shapenet55", array(PC, np.zeros((0, 3))), "expected numbers of shape"),
    ("shapenet55", array(PC, np.array([Harm()]), allow_pickle=True), "Object arrays cannot be"),
    ("shapenet55", in_lines("ShapeNet-55/train.txt", 0, "abc.npy"), "55 categories"),
    ("shapenet55", in_lines("ShapeNet-55/train.txt", 0, f"{SYNSET}-../x.npy"), "official list"),
    ("shapenet55", written(PC, NO_LITERAL), "npy is truncated or no NumPy array"),
    ("hdf5", folder(H5), "train0.h5 cannot be read: Is a directory"),
    ("hdf5", group(H5, "label"), "damaged or foreign"),
    ("hdf5", group(H5, "data"), "damaged or foreign"),
    ("hdf5", cut(H5), "ply_data_train0.h5 is truncated"),
    ("hdf5", written(H5, b"no"), "damaged or foreign"),
    ("hdf5", hdf5(H5, "label", 40, 3), "cloud 3 has label 40, expected 0 to 39"),
    ("hdf5", hdf5(H5, "data", np.nan, (2, 5, 1)), "cloud 2: row 6 is not finite"),
    ("hdf5", hdf5(H5, "data", None), "damaged or foreign"),
    ("hdf5", hdf5(H5, "data", np.zeros((40, 9))), "expected .clouds, points, 3."),
    ("hdf5", hdf5(H5, "label", np.zeros(7, dtype=int)), "7 labels"),
    ("scan", hdf5(OBJ, "label", -1, 0), "cloud 0 has label -1, expected 0 to 14"),
    ("scan", hdf5(OBJ, "label", np.zeros(30)), "labels of type float64, expected integers"),
    ("dat", folder(DAT), "dat cannot be read: Is a directory"),
    ("dat", pickled(DAT, [ONE, [10**6000]]), "cloud 0 has a label of type int, expected one"),
    ("dat", pickled(DAT, [ONE, [[1, [2]]]]), "cloud 0 has a label of type list, expected one"),
    ("dat", cut(DAT, 0.9), "dat is truncated or no pickle"),
    ("dat", pickled(DAT, Harm()), "nothing of it was run"),
    ("dat", pickled(DAT, [[Harm()], [1]]), "nothing of it was run"),
    ("dat", pickled(DAT, [[np.ones((9, 6))], [np.array([10])]]),
     "cloud 0 has label 10, expected 0 to 9"),
    ("dat", pickled(DAT, [[np.ones((9, 3))], [np.array([1])]]), r"\(points, 6\)"),
    ("dat", pickled(DAT, [[np.ones((9, 6))], []]), "not a list of clouds and a list"),
    ("dat", pickled(DAT, [1, 2, 3]), "not a list of clouds and a list"),
    ("fewshot", written(PKL, b"\x80\x02}U\x01\xff]s."), "not a dict of lists"),
    ("fewshot", cut(PKL), "3.pkl is truncated or no pickle"),
    ("fewshot", pickled(PKL, {"train": [Harm()], "test": []}), "nothing of it was run"),
    ("fewshot", pickled(PKL, {"train": [(np.ones((9, 6)), 0, 40)], "test": []}),
     "train cloud 0 has label 40, expected 0 to 39"),
    ("fewshot", pickled(PKL, {"train": []}), "not a dict of lists"),
    ("fewshot", pickled(PKL, {"train": [(1, 2)], "test": []}), "is not .points, label"),
    ("fewshot", lambda r: (r / "5way10shot").mkdir(), "are the same episodes; keep one"),
    ("part", in_lines(CAR, 2, "0 0 0 0 1 0 7"), "row 3 has part 7, but its .* parts 8 to 11"),
    ("part", in_lines(CAR, 2, "0 0 0 0 1 0 8.5"), "row 3 has part 8.5"),
    ("part", in_lines(CAR, 2, "0 0 0 0 1 0"), "row 3 has 6 numbers, expected 7"),
    ("part", in_lines("synsetoffset2category.txt", 0, "Zebra 12345678"), "'Zebra 12345678' is not"),
    ("part", listed(TRAIN_LIST, "shape_data/12345678/a"), "is of no category"),
    ("part", listed(TRAIN_LIST, "shape_data/../a"), "not an entry of the official list"),
    ("part", listed(TRAIN_LIST, f"shape_data/02958343/{0:032x}"), "stands there 2 times"),
    ("part", written(TRAIN_LIST, b"[1"), "is not JSON"),
    ("part", written(TRAIN_LIST, b"[" * 100_000), "is not JSON"),
    ("part", written(TRAIN_LIST, b"[]"), "shuffled_train_file_list.json is empty"),
    ("part", written(TRAIN_LIST, b"[1]"), "is not a list of names"),
]  # fmt: skip
