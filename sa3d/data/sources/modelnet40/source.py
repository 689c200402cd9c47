"""The ``modelnet40`` source: text files of 10 000 points with normals, or pickles of 8192.

The class of a cloud is its id without the number, and its label the line of the class in the list
of names. Of a text cloud the 8192 farthest points are kept, as in the published pickles, but
from the first point on instead of a random one, so that the same files give the same bytes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from sa3d.data.cloud_table import SPLITS, Cloud
from sa3d.data.raw import RawCheck, raw_root
from sa3d.data.sources.modelnet40.dat import count_clouds, unpack_all
from sa3d.data.sources.modelnet40.names import NAMES, NAMES_OF_10
from sa3d.data.sources.modelnet40.settings import ModelNet40Source
from sa3d.data.sources.official import build
from sa3d.data.sources.official.arrays import parse_text
from sa3d.data.sources.official.files import find_folder, read_whole
from sa3d.data.sources.official.lists import (
    names_of,
    other_classes,
    read_lines,
    require_disjoint,
    require_unique,
)
from sa3d.data.sources.official.survey import (
    RawFile,
    Survey,
    absent,
    look_at_all,
    look_at_first,
    survey_of,
)
from sa3d.data.spool import spool_for
from sa3d.errors import DataError

VERSION: Final = 1
OFFICIAL: Final = {40: {"train": 9843, "test": 2468}, 10: {"train": 3991, "test": 908}}
SPLIT: Final = "The published lists."
FOLDER: Final = "modelnet40_normal_resampled"


def prepare(
    source: ModelNet40Source, out: Path, *, quiet: bool = False, allow_missing: bool = False
) -> Path:
    """Write the data set to ``out`` (``.h5``).

    Raises:
        DataError: files that are missing (unless ``allow_missing``) or bad. WriteError: full disk.
    """
    survey, classes = look(source)
    survey.require(allow_missing)
    data = build.DataSet(
        build.made_with(source, VERSION), source.about, SPLIT, classes, "cloud", floor=True
    )
    title = f"modelnet{source.variant}"
    with spool_for(out, f"{data.made_with} {survey.place}") as spool:
        if source.form == "text":
            placed = build.collect(
                spool, survey.files, parse, title, points=source.points, quiet=quiet
            )
        else:
            placed = unpack_all(spool, survey.files, len(classes), title, source.points, quiet)
        return build.write(out, spool, placed, data, survey, quiet=quiet)


def check_raw(source: ModelNet40Source, *, read: bool = True) -> RawCheck:
    """What of the raw data is there; one text cloud of every class is read, or all pickles."""
    try:
        survey, classes = look(source)
    except DataError as error:
        return absent(raw_root(source.root), error)
    if not read:
        return survey.there()
    if source.form == "text":
        return survey.checked(look_at_first(survey, parse))
    return survey.checked(look_at_all(survey, partial(count_clouds, classes=len(classes))))


def look(source: ModelNet40Source) -> tuple[Survey, tuple[str, ...]]:
    """The files that the lists name, and the classes in the order of their labels.

    Raises:
        DataError: lists that are missing or not the official ones.
    """
    prefix = f"modelnet{source.variant}"
    names = f"{prefix}_shape_names.txt"
    place = find_folder(source.root, FOLDER, names)
    classes = read_lines(place / names)
    require_unique(place / names, classes)
    published = NAMES if source.variant == 40 else NAMES_OF_10
    notes = other_classes(place / names, classes, published)
    official = OFFICIAL[source.variant]
    if source.form == "dat":
        pickles = {split: f"{prefix}_{split}_8192pts_fps.dat" for split in official}
        files = [RawFile(place / name, name, SPLITS[split]) for split, name in pickles.items()]
        return survey_of(place, files, official, notes, [place / names]), tuple(classes)
    paths = {split: place / f"{prefix}_{split}.txt" for split in official}
    lists = {split: read_lines(path) for split, path in paths.items()}
    require_disjoint({paths[split]: ids for split, ids in lists.items()})
    label_of = {name: label for label, name in enumerate(classes)}
    wanted = [
        _file(place, paths[split], each, SPLITS[split], label_of)
        for split, ids in lists.items()
        for each in ids
    ]
    lists_read = [place / names, *paths.values()]
    return survey_of(place, wanted, official, notes, lists_read), tuple(classes)


def parse(file: RawFile) -> build.Parsed:
    """One text cloud, all of its points. Runs in a worker."""
    data, stamp = read_whole(file.path)
    rows = parse_text(data, str(file.path), 6, ",")
    return build.Parsed(Cloud(rows[:, :3], normals=rows[:, 3:]), stamp, build.digest_of(data))


def _file(place: Path, listed: Path, each: str, split: int, label_of: dict[str, int]) -> RawFile:
    names_of(listed, each, 1)
    name = each.rpartition("_")[0]
    if name not in label_of:
        raise DataError(
            f"{listed}: '{each}' is of none of the {len(label_of)} classes, such as "
            f"{next(iter(label_of))}; fetch the lists again"
        )
    key = f"{name}/{each}.txt"
    return RawFile(place / key, key, split, each, label_of[name])
