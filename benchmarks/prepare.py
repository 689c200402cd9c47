"""Time and memory of ``sa3d data prepare`` on trees of the true size in the official layouts.

    python benchmarks/prepare.py modelnet40
    python benchmarks/prepare.py modelnet40-dat --share 0.25

Clouds are random: 32 files (or arrays) are made and hard-linked under all names, so that a tree of
12 311 clouds takes 18 MB and its files come from memory; ``--copy`` copies them, for the disk's
share of the time. The command runs as a user starts it. Printed are seconds, seconds of
processor time over all processes, clouds a second, and the most memory that all its processes held
together: their proportional set size (what they share counts once), and the part of it that is
theirs alone.
"""

from __future__ import annotations

import argparse
import pickle
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
FILES, SEED = 32, 0
MODELNET = {"train": 9843, "test": 2468}
SHAPENET = {"train": 41952, "test": 10518}


def rows_of(rng: np.random.Generator, points: int) -> np.ndarray:
    """(points, 6): directions with as many radii, and the directions as normals."""
    normals = rng.normal(size=(points, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.concatenate((normals * rng.uniform(0.5, 1.0, (points, 1)), normals), axis=1)


class Tree:
    """Files of random content under many names."""

    def __init__(self, root: Path, share: float, copy: bool) -> None:
        self.root, self.share = root, share
        self.place: Callable[[Path, Path], Any] = shutil.copyfile if copy else self._link
        self.rng = np.random.default_rng(SEED)
        self.count = 0

    def fill(self, names: list[Path], write: Callable[[Path], Any]) -> None:
        """Give every name the content of one of the files that ``write`` makes."""
        first: list[Path] = []
        for number, name in enumerate(names):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if number < FILES:
                write(path)
                first.append(path)
            else:
                self.place(first[number % FILES], path)
        self.count = len(names)

    def lines(self, name: str, lines: list[str]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    def of(self, counts: dict[str, int]) -> dict[str, int]:
        return {split: round(count * self.share) for split, count in counts.items()}

    @staticmethod
    def _link(source: Path, target: Path) -> None:
        target.hardlink_to(source)


def modelnet40(tree: Tree) -> list[str]:
    classes = [f"class{number:02d}" for number in range(40)]
    tree.lines("modelnet40_shape_names.txt", classes)
    names = []
    for split, count in tree.of(MODELNET).items():
        ids = [f"{classes[n % 40]}_{split[:2]}{n:04d}" for n in range(count)]
        names += [Path(each.rpartition("_")[0]) / f"{each}.txt" for each in ids]
        tree.lines(f"modelnet40_{split}.txt", ids)
    tree.fill(
        names,
        lambda path: np.savetxt(path, rows_of(tree.rng, 10_000), fmt="%.6f", delimiter=","),
    )
    return []


def modelnet40_dat(tree: Tree) -> list[str]:
    tree.lines("modelnet40_shape_names.txt", [f"class{number:02d}" for number in range(40)])
    for split, count in tree.of(MODELNET).items():
        some = [rows_of(tree.rng, 8192).astype(np.float32) for _ in range(FILES)]
        # copies: an array that is pickled twice is only pointed at the second time
        clouds = [some[n % FILES].copy() for n in range(count)]
        labels = [np.array([n % 40], dtype=np.int32) for n in range(count)]
        with (tree.root / f"modelnet40_{split}_8192pts_fps.dat").open("wb") as file:
            pickle.dump([clouds, labels], file, protocol=4)
        tree.count += count
    return ["--set", "form=dat"]


def shapenet55(tree: Tree) -> list[str]:
    names = []
    for split, count in tree.of(SHAPENET).items():
        own = [f"02691156-{split}{n:06d}.npy" for n in range(count)]
        tree.lines(f"ShapeNet-55/{split}.txt", own)
        names += [Path("shapenet_pc") / name for name in own]
    tree.fill(names, lambda path: np.save(path, rows_of(tree.rng, 8192)[:, :3].astype(np.float32)))
    return []


SETS = {
    "modelnet40": ("modelnet40", modelnet40),
    "modelnet40-dat": ("modelnet40", modelnet40_dat),
    "shapenet55": ("shapenet55", shapenet55),
}


def memory(process: psutil.Process) -> tuple[int, int]:
    """Proportional and own bytes of a process and all below it."""
    total = own = 0
    for each in (process, *process.children(recursive=True)):
        try:
            found = each.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        total, own = total + found.pss, own + found.uss
    return total, own


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--share", type=float, default=1.0, help="of the true number of clouds")
    parser.add_argument("--copy", action="store_true", help="copies instead of hard links")
    parser.add_argument("--folder", type=Path, help="where the tree goes; a temporary one else")
    given = parser.parse_args()
    name, make = SETS[given.set]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        tree = Tree(Path(folder) / "raw", given.share, given.copy)
        tree.root.mkdir()
        options = make(tree)
        words = [sys.executable, "-m", "sa3d", "data", "prepare", name, *options]
        words += ["--set", f"root={tree.root}", "--out", folder]
        began = time.monotonic()
        process = psutil.Popen(words, cwd=ROOT)
        total = own = 0
        while process.poll() is None:
            found = memory(process)
            total, own = max(total, found[0]), max(own, found[1])
            time.sleep(0.25)
        wall = time.monotonic() - began
        if process.returncode != 0:
            raise SystemExit(f"prepare failed with status {process.returncode}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{given.set}: {tree.count} clouds in {wall:.1f} s ({tree.count / wall:.0f} clouds/s), "
        f"{used.ru_utime + used.ru_stime:.1f} s of processor time, at most {total >> 20} MiB of "
        f"memory ({own >> 20} MiB its own)"
    )


if __name__ == "__main__":
    main()
