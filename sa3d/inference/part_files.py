"""Predicted parts in a folder: of each cloud a coloured .ply and a .npy; and ``parts.json``."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from sa3d.inference.parts import PartPredictor, Parts
from sa3d.utils.files import write_whole
from sa3d.utils.json_file import write_json
from sa3d.viz.segmented import COLORS

LISTING: Final = "parts.json"


class PartFolder:
    """Writes clouds one by one, each under its own name, laid out as its files are.

    Args:
        out: the folder.
        model: that predicts.
        category: of the clouds.
        files: all that may come.
    """

    def __init__(
        self, out: Path, model: PartPredictor, category: str, files: Sequence[Path]
    ) -> None:
        self._out, self._category, self._names = out, category, model.part_names
        self._sha256 = str(model.card["sha256"])
        allowed = model.card["class_parts"][model.class_names.index(category)]
        self._colors = np.zeros((len(self._names), 3), dtype=np.uint8)
        for place, part in enumerate(allowed):
            self._colors[part] = list(bytes.fromhex(COLORS[place % len(COLORS)][1:]))
        self._places = _places(files)
        self._clouds: list[dict[str, Any]] = []

    @property
    def written(self) -> int:
        """Clouds so far."""
        return len(self._clouds)

    def write(self, cloud: Parts) -> str:
        """Write one cloud.

        Returns:
            A line for people: how much of it each part is.

        Raises:
            WriteError: full disk, no permission.
        """
        place = self._out / self._places[cloud.id]
        labels = cloud.labels.astype(np.int32)
        buffer = io.BytesIO()
        np.save(buffer, labels)
        ply = write_whole(place.with_name(f"{place.name}.ply"), self._ply(cloud))
        npy = write_whole(place.with_name(f"{place.name}.npy"), buffer.getbuffer())
        counts = np.bincount(labels, minlength=len(self._names))
        points = {self._names[part]: int(counts[part]) for part in np.flatnonzero(counts)}
        files = {
            key: str(path.relative_to(self._out)) for key, path in (("ply", ply), ("npy", npy))
        }
        self._clouds.append({"id": cloud.id, **files, "points": points})
        shares = sorted(points.items(), key=lambda item: -item[1])
        told = ", ".join(f"{name} {count / len(labels):.1%}" for name, count in shares)
        return f"{ply}: {told}"

    def finish(self) -> Path:
        """Write the list of all clouds, and what their labels mean."""
        tree = {
            "category": self._category,
            "part_names": list(self._names),
            "model": self._sha256,
            "clouds": self._clouds,
        }
        return write_json(self._out / LISTING, tree)

    def _ply(self, cloud: Parts) -> bytes:
        """Binary, with the label of every point; in single precision where that is exact."""
        single = bool((cloud.points.astype(np.float32) == cloud.points).all())
        layout: list[tuple[str, str]] = [(axis, "<f4" if single else "<f8") for axis in "xyz"]
        layout += [(name, "u1") for name in ("red", "green", "blue")]
        rows = np.empty(len(cloud.points), dtype=[*layout, ("label", "<i4")])
        for axis, column in zip("xyz", cloud.points.T, strict=True):
            rows[axis] = column
        for name, column in zip(
            ("red", "green", "blue"), self._colors[cloud.labels].T, strict=True
        ):
            rows[name] = column
        rows["label"] = cloud.labels
        types = {"<f4": "float", "<f8": "double", "u1": "uchar", "<i4": "int"}
        names = [" ".join(name.split()) for name in self._names]
        header = [
            "ply",
            "format binary_little_endian 1.0",
            *(f"comment label {part} is {name}" for part, name in enumerate(names)),
            f"element vertex {len(rows)}",
            *(f"property {types[kind]} {name}" for name, kind in (*layout, ("label", "<i4"))),
            "end_header\n",
        ]
        return "\n".join(header).encode("ascii", "backslashreplace") + rows.tobytes()


def _places(files: Sequence[Path]) -> dict[str, Path]:
    """Id of each file -> where it is written, below the folder and without a suffix.

    Files keep their places relative to the folder that is common to all of them, so that none is
    written outside. Only where two of a folder have the same name but for the suffix, that stays.
    """
    absolute = [Path(os.path.abspath(file)) for file in files]  # noqa: PTH100 - keeps links
    root = os.path.commonpath([file.parent for file in absolute]) if files else ""
    stems = Counter((file.parent, file.stem.lower()) for file in absolute)
    found = {}
    for given, file in zip(files, absolute, strict=True):
        alone = stems[file.parent, file.stem.lower()] == 1
        name = file.stem if alone else file.name
        key = os.fsencode(given).decode("utf-8", "backslashreplace")
        found[key] = file.parent.relative_to(root) / f"{name}.parts"
    return found
