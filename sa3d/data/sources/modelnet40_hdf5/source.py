"""The ``modelnet40-hdf5`` source: five training and two test files of 2048 points a cloud.

It has 9840 training clouds where the text files have 9843, and no normals: another sampling of the
same models. Point-M2AE's linear SVM is published on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sa3d.data.cloud_table import SPLITS
from sa3d.data.raw import RawCheck, raw_root
from sa3d.data.sources.modelnet40.names import NAMES
from sa3d.data.sources.modelnet40_hdf5.settings import ModelNet40Hdf5Source
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
from sa3d.data.spool import spool_for
from sa3d.errors import DataError

VERSION: Final = 1
OFFICIAL: Final = {"train": 9840, "test": 2468}
FILES: Final = {"train": 5, "test": 2}
SPLIT: Final = "The published files."


def prepare(
    source: ModelNet40Hdf5Source, out: Path, *, quiet: bool = False, allow_missing: bool = False
) -> Path:
    """Write the data set to ``out`` (``.h5``).

    Raises:
        DataError: files that are missing (unless ``allow_missing``) or bad. WriteError: full disk.
    """
    survey = look(source)
    survey.require(allow_missing)
    data = build.DataSet(
        build.made_with(source, VERSION), source.about, SPLIT, NAMES, "cloud", floor=True
    )
    with spool_for(out, f"{data.made_with} {survey.place}") as spool:
        placed = collect_hdf5(spool, survey, len(NAMES), "modelnet40-hdf5", quiet)
        return build.write(out, spool, placed, data, survey, quiet=quiet)


def check_raw(source: ModelNet40Hdf5Source, *, read: bool = True) -> RawCheck:
    """What of the raw data is there; all of it is read."""
    try:
        survey = look(source)
    except DataError as error:
        return absent(raw_root(source.root), error)
    if not read:
        return survey.there()
    return survey.checked(look_at_all(survey, lambda file: count_clouds(file, len(NAMES))))


def look(source: ModelNet40Hdf5Source) -> Survey:
    """The seven files.

    Raises:
        DataError: there is none of them.
    """
    names = {f"ply_data_{split}{n}.h5": split for split in FILES for n in range(FILES[split])}
    place = find_folder(source.root, "modelnet40_ply_hdf5_2048", *names)
    files = [RawFile(place / name, name, SPLITS[split]) for name, split in names.items()]
    return survey_of(place, files, OFFICIAL)
