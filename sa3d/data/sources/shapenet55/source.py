"""The ``shapenet55`` source: a NumPy file of 8192 points a cloud, two lists, 55 categories.

A cloud's category is the WordNet number that its name begins with. Points are stored as they are:
pre-training chooses some of them and scales those to the unit sphere (``subsample``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sa3d.data.cloud_table import SPLITS, Cloud
from sa3d.data.raw import RawCheck, raw_root
from sa3d.data.sources.official import build
from sa3d.data.sources.official.arrays import parse_npy
from sa3d.data.sources.official.files import find_folder, read_whole
from sa3d.data.sources.official.lists import names_of, read_lines, require_disjoint
from sa3d.data.sources.official.survey import (
    RawFile,
    Survey,
    absent,
    look_at_first,
    survey_of,
)
from sa3d.data.sources.shapenet55.names import NAMES
from sa3d.data.sources.shapenet55.settings import ShapeNet55Source
from sa3d.data.spool import spool_for
from sa3d.errors import DataError

VERSION: Final = 1
OFFICIAL: Final = {"train": 41952, "test": 10518}
SPLIT: Final = "The published lists."
_CLASSES = tuple(NAMES)


def prepare(
    source: ShapeNet55Source, out: Path, *, quiet: bool = False, allow_missing: bool = False
) -> Path:
    """Write the data set to ``out`` (``.h5``).

    Raises:
        DataError: files that are missing (unless ``allow_missing``) or bad. WriteError: full disk.
    """
    survey = look(source)
    survey.require(allow_missing)
    data = build.DataSet(
        build.made_with(source, VERSION),
        source.about,
        SPLIT,
        tuple(NAMES.values()),
        "subsample",
    )
    with spool_for(out, f"{data.made_with} {survey.place}") as spool:
        placed = build.collect(spool, survey.files, parse, "shapenet55", quiet=quiet)
        return build.write(out, spool, placed, data, survey, quiet=quiet)


def check_raw(source: ShapeNet55Source, *, read: bool = True) -> RawCheck:
    """What of the raw data is there; one cloud of every category is read."""
    try:
        survey = look(source)
    except DataError as error:
        return absent(raw_root(source.root), error)
    if not read:
        return survey.there()
    return survey.checked(look_at_first(survey, parse))


def look(source: ShapeNet55Source) -> Survey:
    """The files that the lists name.

    Raises:
        DataError: lists that are missing or not the official ones.
    """
    place = find_folder(source.root, "ShapeNet55-34", "ShapeNet-55")
    paths = {split: place / "ShapeNet-55" / f"{split}.txt" for split in OFFICIAL}
    lists = {split: read_lines(path) for split, path in paths.items()}
    require_disjoint({paths[split]: names for split, names in lists.items()})
    wanted = [
        _file(place, paths[split], name, SPLITS[split]) for split in lists for name in lists[split]
    ]
    return survey_of(place, wanted, OFFICIAL, lists=paths.values())


def parse(file: RawFile) -> build.Parsed:
    """One cloud. Runs in a worker."""
    data, stamp = read_whole(file.path)
    return build.Parsed(Cloud(parse_npy(data, str(file.path))), stamp, build.digest_of(data))


def _file(place: Path, listed: Path, name: str, split: int) -> RawFile:
    names_of(listed, name, 1)
    synset = name.partition("-")[0]
    if synset not in NAMES or not name.endswith(".npy"):
        raise DataError(
            f"{listed}: '{name}' is not <category>-<model>.npy with one of the 55 categories; "
            "fetch the list again"
        )
    key = f"shapenet_pc/{name}"
    return RawFile(place / key, key, split, name.removesuffix(".npy"), _CLASSES.index(synset))
