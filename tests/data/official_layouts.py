"""Small trees in the exact layouts of the public data sets, made up from a seed.

One function a data set. Each writes the files of its layout below ``root`` as the official
archives hold them, and returns the clouds that it wrote by their ids, as the files have them. A
class is an ellipsoid of its own proportions, so that a model can learn to tell them apart.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SYNSETS = ("02691156", "03001627", "04379243")
MODELNET10 = (
    "bathtub", "bed", "chair", "desk", "dresser",
    "monitor", "night_stand", "sofa", "table", "toilet",
)  # fmt: skip
_OTHERS = """
airplane bench bookshelf bottle bowl car cone cup curtain door flower_pot glass_box guitar keyboard
lamp laptop mantel person piano plant radio range_hood sink stairs stool tent tv_stand vase wardrobe
xbox"""
MODELNET40 = tuple(sorted((*MODELNET10, *_OTHERS.split())))
CATEGORIES = {
    "Airplane": ("02691156", 4), "Bag": ("02773838", 2), "Cap": ("02954340", 2),
    "Car": ("02958343", 4), "Chair": ("03001627", 4), "Earphone": ("03261776", 3),
    "Guitar": ("03467517", 3), "Knife": ("03624134", 2), "Lamp": ("03636649", 4),
    "Laptop": ("03642806", 2), "Motorbike": ("03790512", 6), "Mug": ("03797390", 2),
    "Pistol": ("03948459", 3), "Rocket": ("04099429", 3), "Skateboard": ("04225987", 3),
    "Table": ("04379243", 3),
}  # fmt: skip


def cloud(rng: np.random.Generator, kind: int, points: int) -> NDArray[np.float32]:
    """(points, 6): a noisy ellipsoid whose proportions belong to ``kind``, with normals."""
    axes = np.random.default_rng(kind).uniform(0.2, 1.0, 3)
    normals = rng.normal(size=(points, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    at = normals * axes + rng.normal(0.0, 0.01, (points, 3))
    return np.concatenate((at, normals), axis=1).astype(np.float32)


def write_shapenet55(
    root: Path, seed: int = 0, per_class: int = 3, points: int = 256
) -> dict[str, Array]:
    """``ShapeNet-55/`` and ``shapenet_pc/`` of three categories; the last of each is test."""
    rng = np.random.default_rng(seed)
    lists: dict[str, list[str]] = {"train": [], "test": []}
    written = {}
    (root / "shapenet_pc").mkdir(parents=True, exist_ok=True)
    for kind, synset in enumerate(SYNSETS):
        for number in range(per_class):
            name = f"{synset}-{number:032x}"
            written[name] = cloud(rng, kind, points)[:, :3]
            np.save(root / "shapenet_pc" / f"{name}.npy", written[name])
            lists["test" if number == per_class - 1 else "train"].append(f"{name}.npy")
    for split, names in lists.items():
        _lines(root / "ShapeNet-55" / f"{split}.txt", names)
    return written


def write_modelnet40(
    root: Path, seed: int = 0, per_class: int = 2, points: int = 200
) -> dict[str, Array]:
    """Text clouds of all 40 classes with the lists of ModelNet40 and ModelNet10; the last of each
    class is test. The official ones have 10 000 points."""
    rng = np.random.default_rng(seed)
    written = {}
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for kind, name in enumerate(MODELNET40):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(1, per_class + 1):
            each = f"{name}_{number:04d}"
            written[each] = cloud(rng, kind, points)
            np.savetxt(root / name / f"{each}.txt", written[each], fmt="%.6f", delimiter=",")
            lists["test" if number == per_class else "train"].append(each)
    _modelnet_lists(root, lists)
    return written


def write_modelnet40_dat(
    root: Path, seed: int = 0, per_class: int = 2, points: int = 300, protocol: int = 4
) -> dict[str, Array]:
    """The pickles ``modelnet40_{train,test}_8192pts_fps.dat`` and ``modelnet10_…`` with the lists
    of names; the last of each class is test. The official ones have 8192 points."""
    rng = np.random.default_rng(seed)
    written = {}
    for variant, names in ((40, MODELNET40), (10, MODELNET10)):
        for split, numbers in (("train", range(per_class - 1)), ("test", range(1))):
            clouds, labels = [], []
            for label, _ in enumerate(names):
                for _ in numbers:
                    written[f"{variant}-{split}-{len(clouds):05d}"] = cloud(rng, label, points)
                    clouds.append(written[f"{variant}-{split}-{len(clouds):05d}"])
                    labels.append(np.array([label], dtype=np.int32))
            root.mkdir(parents=True, exist_ok=True)
            path = root / f"modelnet{variant}_{split}_8192pts_fps.dat"
            path.write_bytes(pickle.dumps([clouds, labels], protocol))
    _modelnet_lists(root, {})
    return written


def write_modelnet40_hdf5(
    root: Path, seed: int = 0, per_file: int = 40, points: int = 128
) -> dict[str, Array]:
    """``ply_data_train0.h5`` to ``4`` and ``ply_data_test0.h5`` and ``1``; labels in turn."""
    rng = np.random.default_rng(seed)
    written = {}
    for split, files in (("train", 5), ("test", 2)):
        for number in range(files):
            labels = (np.arange(per_file, dtype=np.uint8) % 40)[:, None]
            data = [cloud(rng, int(label), points)[:, :3] for label in labels[:, 0]]
            _h5(root / f"ply_data_{split}{number}.h5", data=np.stack(data), label=labels)
            for row, each in enumerate(data, number * per_file):
                written[f"{split}-{row:05d}"] = each
    return written


def write_modelnet_fewshot(
    root: Path,
    seed: int = 0,
    points: int = 128,
    tested: int = 20,
    protocol: int = 4,
    underscore: bool = True,
) -> dict[str, Array]:
    """40 pickles of 5 or 10 ways, 10 or 20 shots; clouds come from a pool, so that episodes share
    them. Returns the pool, by class and number."""
    rng = np.random.default_rng(seed)
    pool = {(kind, number): cloud(rng, kind, points) for kind in range(12) for number in range(60)}
    for way in (5, 10):
        for shot in (10, 20):
            folder = root / (f"{way}way_{shot}shot" if underscore else f"{way}way{shot}shot")
            folder.mkdir(parents=True, exist_ok=True)
            for fold in range(10):
                episode: dict[str, list[Any]] = {"train": [], "test": []}
                for label, kind in enumerate(rng.permutation(12)[:way].tolist()):
                    chosen = rng.permutation(60)[: shot + tested].tolist()
                    for at, number in enumerate(chosen):
                        item = (pool[kind, number], label, kind)
                        episode["train" if at < shot else "test"].append(item)
                (folder / f"{fold}.pkl").write_bytes(pickle.dumps(episode, protocol))
    return {f"{kind}/{number}": each for (kind, number), each in pool.items()}


def write_scanobjectnn(
    root: Path, seed: int = 0, per_class: int = 2, points: int = 128
) -> dict[str, Array]:
    """The six files of ``main_split/`` and ``main_split_nobg/`` that the three variants read.
    Returns the clouds by ``<folder>/<file>/<row>``."""
    rng = np.random.default_rng(seed)
    written = {}
    for folder, suffixes in (
        ("main_split", ("", "_augmentedrot_scale75")),
        ("main_split_nobg", ("",)),
    ):
        for suffix in suffixes:
            for split in ("training", "test"):
                labels = np.repeat(np.arange(15, dtype=np.int32), per_class)
                data = np.stack([cloud(rng, int(k), points)[:, :3] * 3 + 1 for k in labels])
                stem = f"{split}_objectdataset{suffix}"
                mask = np.zeros(data.shape[:2], dtype=np.int32)
                _h5(root / folder / f"{stem}.h5", data=data, label=labels, mask=mask)
                written |= {f"{folder}/{stem}/{row}": each for row, each in enumerate(data)}
    return written


def write_shapenetpart(
    root: Path, seed: int = 0, per_class: int = 4, points: int = 200
) -> dict[str, Array]:
    """Text clouds of all 16 categories, of ``points`` points and a few more, with their parts by
    height; of each category the last is test, the one before it validation."""
    rng = np.random.default_rng(seed)
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    written = {}
    first = 0
    for kind, (synset, parts) in enumerate(CATEGORIES.values()):
        (root / synset).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            rows = cloud(rng, kind, points + number)
            height = rows[:, 1].argsort().argsort() * parts // len(rows)
            name = f"{synset}/{number:032x}"
            written[name] = np.concatenate((rows, first + height[:, None]), axis=1)
            np.savetxt(root / f"{name}.txt", written[name], fmt="%.6f")
            split = {per_class - 1: "test", per_class - 2: "val"}.get(number, "train")
            lists[split].append(f"shape_data/{name}")
        first += parts
    _lines(root / "synsetoffset2category.txt", [f"{k}\t{v}" for k, (v, _) in CATEGORIES.items()])
    folder = root / "train_test_split"
    folder.mkdir(exist_ok=True)
    for split, names in lists.items():
        (folder / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))
    return written


def _modelnet_lists(root: Path, lists: dict[str, list[str]]) -> None:
    for variant, names in ((40, MODELNET40), (10, MODELNET10)):
        _lines(root / f"modelnet{variant}_shape_names.txt", names)
        for split, ids in lists.items():
            own = [each for each in ids if each.rpartition("_")[0] in names]
            _lines(root / f"modelnet{variant}_{split}.txt", own)


def _lines(path: Path, lines: list[str] | tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _h5(path: Path, **arrays: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip", compression_opts=1)
