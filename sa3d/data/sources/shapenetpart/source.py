"""The ``shapenetpart`` source: a text file of any number of points a cloud, 16 categories.

Part numbers run over all categories, 0 to 49; each category has its own. A category's label is its
line in ``synsetoffset2category.txt``.

The published lists name 35 of their shapes twice: 9 in train and validation, 23 in train and test,
3 in validation and test. Here a shape is in one split: in test before validation before train, so
that nothing is trained on that is tested on. The published loaders, which look ids up in a set,
train on 13 998 shapes, 26 of them test shapes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from sa3d.data.cloud_table import SPLITS, Cloud
from sa3d.data.raw import RawCheck, raw_root
from sa3d.data.shapenet_parts import CATEGORIES
from sa3d.data.sources.official import build
from sa3d.data.sources.official.arrays import parse_text
from sa3d.data.sources.official.files import find_folder, read_whole
from sa3d.data.sources.official.lists import (
    names_of,
    other_classes,
    read_json_list,
    read_lines,
    require_unique,
)
from sa3d.data.sources.official.survey import (
    RawFile,
    Survey,
    absent,
    look_at_first,
    survey_of,
)
from sa3d.data.sources.shapenetpart.settings import FOLDER, ShapeNetPartSource
from sa3d.data.spool import spool_for
from sa3d.errors import DataError

VERSION: Final = 1
# of the published lists, a shape that stands in two of them counted once, as described above
OFFICIAL: Final = {"train": 12105, "validation": 1867, "test": 2874}
LISTS: Final = {"test": "test", "validation": "val", "train": "train"}
SPLIT: Final = (
    "The published lists; a shape that stands in two of them is in test before validation before "
    "train."
)
#: parts of each category, by its WordNet number
PARTS: Final = {each.synset: each.parts for each in CATEGORIES}

Categories = dict[str, str]  # WordNet number -> name, in the order of labels


def prepare(
    source: ShapeNetPartSource, out: Path, *, quiet: bool = False, allow_missing: bool = False
) -> Path:
    """Write the data set to ``out`` (``.h5``).

    Raises:
        DataError: files that are missing (unless ``allow_missing``) or bad. WriteError: full disk.
    """
    survey, categories = look(source)
    survey.require(allow_missing)
    name_of = {
        part: f"{name}/{number}"
        for synset, name in categories.items()
        for number, part in enumerate(PARTS[synset])
    }
    data = build.DataSet(
        build.made_with(source, VERSION),
        source.about,
        SPLIT,
        tuple(categories.values()),
        "cloud",
        part_names=tuple(name_of[part] for part in range(len(name_of))),
        class_parts=tuple(tuple(PARTS[synset]) for synset in categories),
    )
    with spool_for(out, f"{data.made_with} {survey.place}") as spool:
        placed = build.collect(
            spool, survey.files, _parser(categories), "shapenetpart", quiet=quiet
        )
        return build.write(out, spool, placed, data, survey, quiet=quiet)


def check_raw(source: ShapeNetPartSource, *, read: bool = True) -> RawCheck:
    """What of the raw data is there; one cloud of every category is read."""
    try:
        survey, categories = look(source)
    except DataError as error:
        return absent(raw_root(source.root), error)
    if not read:
        return survey.there()
    return survey.checked(look_at_first(survey, _parser(categories)))


def look(source: ShapeNetPartSource) -> tuple[Survey, Categories]:
    """The files that the lists name, and the categories.

    Raises:
        DataError: lists that are missing or not the official ones.
    """
    place = find_folder(source.root, FOLDER, "synsetoffset2category.txt")
    numbers = place / "synsetoffset2category.txt"
    categories = _categories(numbers)
    label_of = {synset: label for label, synset in enumerate(categories)}
    folder = place / "train_test_split"
    paths = {split: folder / f"shuffled_{word}_file_list.json" for split, word in LISTS.items()}
    files: dict[str, RawFile] = {}
    twice = 0
    for split, path in paths.items():
        entries = read_json_list(path)
        require_unique(path, entries)
        for entry in entries:
            _, synset, model = names_of(path, entry, 3)
            if synset not in label_of:
                raise DataError(f"{path}: '{entry}' is of no category; fetch the lists again")
            key = f"{synset}/{model}"
            twice += key in files
            raw = RawFile(place / f"{key}.txt", f"{key}.txt", SPLITS[split], key, label_of[synset])
            files.setdefault(key, raw)
    published = [category.name for category in CATEGORIES]
    notes = other_classes(numbers, tuple(categories.values()), published)
    notes += [f"{twice} shapes stand in two of the lists."] if twice else []
    order = [SPLITS[split] for split in OFFICIAL]
    wanted = sorted(files.values(), key=lambda each: order.index(each.split))
    lists = (numbers, *paths.values())
    return survey_of(place, wanted, OFFICIAL, notes, lists), categories


def parse(file: RawFile, parts: tuple[range, ...]) -> build.Parsed:
    """One cloud with normals and parts; ``parts`` are those of each category. Runs in a worker."""
    data, stamp = read_whole(file.path)
    rows = parse_text(data, str(file.path), 7, None)
    own = parts[file.label]
    labels = rows[:, 6]
    wrong = np.flatnonzero(~np.isin(labels, np.array(own)))
    if len(wrong):
        raise DataError(
            f"{file.path}: row {wrong[0] + 1} has part {labels[wrong[0]]:g}, but its category has "
            f"parts {own[0]} to {own[-1]}"
        )
    cloud = Cloud(rows[:, :3], labels.astype(np.uint8), rows[:, 3:6])
    return build.Parsed(cloud, stamp, build.digest_of(data))


def _parser(categories: Categories) -> partial[build.Parsed]:
    return partial(parse, parts=tuple(PARTS[synset] for synset in categories))


def _categories(path: Path) -> Categories:
    found: Categories = {}
    for line in read_lines(path):
        words = line.split()
        if len(words) != 2 or words[1] not in PARTS or words[1] in found:
            raise DataError(
                f"{path}: '{line}' is not a name and the number of one of the 16 categories, each "
                "once; fetch it again"
            )
        found[words[1]] = words[0]
    if len(found) != len(PARTS):
        raise DataError(f"{path} names {len(found)} of the 16 categories; fetch it again")
    return found
