"""The ``scanobjectnn`` source: a training and a test file of 2048 points a cloud.

Coordinates stay as they are, also for the model (``none``): no published code scales them. The
files' ``mask``, which tells object from background, is not kept. Which clouds of PB-T50-RS are
cut from the same object is not told by the files, so each is a family of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sa3d.data.cloud_table import SPLITS
from sa3d.data.raw import RawCheck, raw_root
from sa3d.data.sources.official import build
from sa3d.data.sources.official.files import find_folder
from sa3d.data.sources.official.hdf5 import collect_hdf5, count_clouds
from sa3d.data.sources.official.survey import (
    RawFile,
    Survey,
    absent,
    look_at_all,
    survey_of,
)
from sa3d.data.sources.scanobjectnn.settings import ScanObjectNNSource
from sa3d.data.spool import spool_for
from sa3d.errors import DataError

VERSION: Final = 1
NAMES: Final = (
    "bag",
    "bin",
    "box",
    "cabinet",
    "chair",
    "desk",
    "display",
    "door",
    "shelf",
    "table",
    "bed",
    "pillow",
    "sink",
    "sofa",
    "toilet",
)
_OBJECTS: Final = {"train": 2309, "test": 581}
OFFICIAL: Final = {
    "obj-bg": _OBJECTS,
    "obj-only": _OBJECTS,
    "pb-t50-rs": {"train": 11416, "test": 2882},
}
FOLDERS: Final = {
    "obj-bg": "main_split",
    "obj-only": "main_split_nobg",
    "pb-t50-rs": "main_split",
}
STEMS: Final = {"train": "training_objectdataset", "test": "test_objectdataset"}
SUFFIXES: Final = {"obj-bg": "", "obj-only": "", "pb-t50-rs": "_augmentedrot_scale75"}
SPLIT: Final = "The published files."


def prepare(
    source: ScanObjectNNSource, out: Path, *, quiet: bool = False, allow_missing: bool = False
) -> Path:
    """Write the data set to ``out`` (``.h5``).

    Raises:
        DataError: files that are missing (unless ``allow_missing``) or bad. WriteError: full disk.
    """
    survey = look(source)
    survey.require(allow_missing)
    data = build.DataSet(
        build.made_with(source, VERSION), source.about, SPLIT, NAMES, "none", floor=True
    )
    with spool_for(out, f"{data.made_with} {survey.place}") as spool:
        placed = collect_hdf5(spool, survey, len(NAMES), f"scanobjectnn {source.variant}", quiet)
        return build.write(out, spool, placed, data, survey, quiet=quiet)


def check_raw(source: ScanObjectNNSource, *, read: bool = True) -> RawCheck:
    """What of the raw data is there; all of it is read."""
    try:
        survey = look(source)
    except DataError as error:
        return absent(raw_root(source.root), error)
    if not read:
        return survey.there()
    return survey.checked(look_at_all(survey, lambda file: count_clouds(file, len(NAMES))))


def look(source: ScanObjectNNSource) -> Survey:
    """The two files of the variant.

    Raises:
        DataError: there is no folder of any variant.
    """
    folder = FOLDERS[source.variant]
    # any variant's folder is the place, so that this one is known to be absent from it
    place = find_folder(source.root, "h5_files", folder, *FOLDERS.values())
    names = {split: f"{stem}{SUFFIXES[source.variant]}.h5" for split, stem in STEMS.items()}
    files = [
        RawFile(place / folder / name, f"{folder}/{name}", SPLITS[split])
        for split, name in names.items()
    ]
    return survey_of(place, files, OFFICIAL[source.variant])
