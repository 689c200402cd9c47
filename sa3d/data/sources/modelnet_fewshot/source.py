"""The ``modelnet-fewshot`` source: 40 pickles, each an episode with its clouds.

A cloud occurs in many episodes. It is stored once, under its class and a digest of its content,
and the episodes name it. Its class is the one of ModelNet40, its label within an episode the
episode's own. A cloud is in the training split if any episode trains on it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud
from sa3d.data.raw import RawCheck, raw_root
from sa3d.data.sources.modelnet40.names import NAMES
from sa3d.data.sources.modelnet_fewshot.settings import ModelNetFewshotSource
from sa3d.data.sources.official import build
from sa3d.data.sources.official.arrays import Floats, as_rows
from sa3d.data.sources.official.files import find_folder, stamp_of, unchanging
from sa3d.data.sources.official.pickles import one_integer, pickle_progress, read_pickle
from sa3d.data.sources.official.survey import (
    RawFile,
    Survey,
    absent,
    look_at_all,
    survey_of,
)
from sa3d.data.spool import Spool, Stamp, spool_for
from sa3d.data.store import TEST, TRAIN, Episode
from sa3d.errors import DataError

VERSION: Final = 1
WAYS, SHOTS, FOLDS, TESTED = (5, 10), (10, 20), 10, 20
SPLIT: Final = (
    "Episodes as published. The split only says whether any episode trains on a cloud; another "
    "may be tested on it."
)
_NO_STAMP = Stamp(0, 0)  # clouds are known by their content

Keep = Callable[[str, Floats], None]


class _Member(NamedTuple):
    """A cloud of an episode: digest of its content, label within the episode, class."""

    digest: str
    label: int
    original: int


def prepare(
    source: ModelNetFewshotSource, out: Path, *, quiet: bool = False, allow_missing: bool = False
) -> Path:
    """Write the data set to ``out`` (``.h5``).

    Raises:
        DataError: files that are missing (unless ``allow_missing``) or bad. WriteError: full disk.
    """
    survey = look(source)
    survey.require(allow_missing)
    made_with = build.made_with(source, VERSION)
    placed: dict[str, build.Placed] = {}
    episodes = []
    with spool_for(out, f"{made_with} {survey.place}") as spool:
        paths = [file.path for file in survey.files]
        with pickle_progress("modelnet-fewshot", paths, quiet) as bar:
            for file in survey.files:
                train, test = _read(file.path, _keeper(spool), bar.update)
                episodes.append(_episode(file.id, train, test, placed))
        data = build.DataSet(
            made_with, source.about, SPLIT, NAMES, "cloud", episodes=tuple(episodes)
        )
        clouds = [placed[name] for name in sorted(placed)]
        return build.write(out, spool, clouds, data, survey, _facts(survey, episodes), quiet=quiet)


def check_raw(source: ModelNetFewshotSource, *, read: bool = True) -> RawCheck:
    """What of the raw data is there; all of it is read."""
    try:
        survey = look(source)
    except DataError as error:
        return absent(raw_root(source.root), error)
    if not read:
        return survey.there()
    return survey.checked(look_at_all(survey, _count_clouds))


def look(source: ModelNetFewshotSource) -> Survey:
    """The 40 pickles, in folders written with or without an underscore.

    Raises:
        DataError: there is no folder of them, or two of the same episodes.
    """
    names = [(way, shot) for way in WAYS for shot in SHOTS]
    markers = [spelling for way, shot in names for spelling in _spellings(way, shot)]
    place = find_folder(source.root, "ModelNetFewshot", *markers)
    files = []
    for way, shot in names:
        found = [name for name in _spellings(way, shot) if stamp_of(place / name) is not None]
        if len(found) == 2:
            raise DataError(
                f"{place / found[0]} and {place / found[1]} are the same episodes; keep one"
            )
        folder = found[0] if found else f"{way}way_{shot}shot"
        for fold in range(FOLDS):
            key = f"{folder}/{fold}.pkl"
            files.append(RawFile(place / key, key, TRAIN, f"{way}way-{shot}shot-{fold}"))
    return survey_of(place, files, {})


def _count_clouds(file: RawFile) -> int:
    """Clouds of an episode, all of which is read; those that other episodes have, too."""
    return sum(map(len, _read(file.path, lambda digest, rows: None, None)))


def _spellings(way: int, shot: int) -> tuple[str, str]:
    return f"{way}way_{shot}shot", f"{way}way{shot}shot"


def _keeper(spool: Spool) -> Keep:
    def keep(digest: str, rows: Floats) -> None:
        if not spool.has(digest, _NO_STAMP):
            normals = rows[:, 3:] if rows.shape[1] == 6 else None
            spool.add(digest, _NO_STAMP, digest, Cloud(rows[:, :3], normals=normals))

    return keep


def _read(
    path: Path, keep: Keep, moved: Callable[[int], object] | None
) -> tuple[list[_Member], list[_Member]]:
    """What an episode trains and is tested on; each cloud's digest and rows go to ``keep``.

    Raises:
        DataError: a pickle of anything else.
    """
    count = 0

    def hand(array: NDArray[Any]) -> str:
        nonlocal count
        rows = as_rows(array, f"{path}, cloud {count}", (6, 3))
        count += 1
        digest = hashlib.sha256(rows.tobytes()).hexdigest()
        keep(digest, rows)
        return digest

    with unchanging(path):
        found = read_pickle(path, hand, moved)
    if isinstance(found, dict):  # text of Python 2 is bytes here
        found = {
            key.decode("latin-1") if isinstance(key, bytes) else key: each
            for key, each in found.items()
        }
    if not isinstance(found, dict) or not all(
        isinstance(found.get(name), list) for name in ("train", "test")
    ):
        raise DataError(f"{path} is not a dict of lists `train` and `test`; fetch it again")
    return _members(path, "train", found["train"]), _members(path, "test", found["test"])


def _members(path: Path, part: str, items: list[Any]) -> list[_Member]:
    members = []
    for number, item in enumerate(items):
        name = f"{path}, {part} cloud {number}"
        if not isinstance(item, tuple | list) or len(item) != 3 or not isinstance(item[0], str):
            raise DataError(f"{name} is not (points, label, original label); fetch it again")
        label = one_integer(item[1], name, max(WAYS))
        members.append(_Member(item[0], label, one_integer(item[2], name, len(NAMES))))
    return members


def _episode(
    name: str, train: list[_Member], test: list[_Member], placed: dict[str, build.Placed]
) -> Episode:
    """The episode with its clouds' ids; clouds that are new go to ``placed``.

    A cloud is known by its class and content. One that an episode holds twice is stored twice, as
    an episode must name every cloud once.
    """
    times: Counter[str] = Counter()

    def ids(members: list[_Member], split: int) -> tuple[str, ...]:
        found = []
        for member in members:
            base = f"{NAMES[member.original]}/{member.digest[:20]}"
            times[base] += 1
            known = base if times[base] == 1 else f"{base}-{times[base]}"
            before = placed.get(known)
            of_split = split if before is None else min(split, before.split)  # TRAIN is less
            placed[known] = build.Placed(known, member.original, of_split, member.digest)
            found.append(known)
        return tuple(found)

    return Episode(
        name,
        ids(train, TRAIN),
        tuple(member.label for member in train),
        ids(test, TEST),
        tuple(member.label for member in test),
    )


def _facts(survey: Survey, episodes: list[Episode]) -> dict[str, Any]:
    """What the summary says of the episodes: their members, and those of an unusual size."""
    unusual = []
    for file, episode in zip(survey.files, episodes, strict=True):
        way, shot, _ = map(int, re.findall(r"\d+", file.id))
        if (len(episode.train), len(episode.test)) != (way * shot, way * TESTED):
            unusual.append(f"{file.id}: {len(episode.train)} and {len(episode.test)}")
    members = sum(len(each.train) + len(each.test) for each in episodes)
    return {"episode_members": members, "episodes_of_other_size": unusual}
