"""What a data set's lists promise, what is there of it, and what that means."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sa3d.data.cloud_table import SPLITS
from sa3d.data.raw import RawCheck
from sa3d.data.sources.official.files import stamp_of
from sa3d.errors import DataError
from sa3d.utils.progress import ProgressBar
from sa3d.utils.text import examples

_NAMED = 10
_BEGINNING = 4096  # bytes; a line of every text file is shorter


@dataclass(frozen=True)
class RawFile:
    """A file that the data set should have.

    Attributes:
        path: where it belongs.
        key: what it is called in messages and in the spool: its path within the data set.
        split: one of the store's splits.
        id: of its cloud, if it holds one.
        label: the cloud's class, likewise.
    """

    path: Path
    key: str
    split: int
    id: str = ""
    label: int = -1


@dataclass(frozen=True)
class Survey:
    """The files of a data set.

    Attributes:
        place: its folder.
        files: those that are there.
        missing: those that are not.
        official: clouds of each split, as published.
        notes: what is worth knowing and no fault.
        lists: the text files that name the others.
    """

    place: Path
    files: tuple[RawFile, ...]
    missing: tuple[RawFile, ...]
    official: Mapping[str, int]
    notes: tuple[str, ...] = ()
    lists: tuple[Path, ...] = ()

    def require(self, allow_missing: bool) -> None:
        """That nothing is missing, or at least that something is there.

        Raises:
            DataError: with the number of missing files and the first ten.
        """
        if not self.files:
            raise DataError(
                f"{self.place} has none of the {len(self.missing)} files that belong there, such "
                f"as {self.missing[0].key}; fetch the data set again"
            )
        if self.missing and not allow_missing:
            total = len(self.files) + len(self.missing)
            raise DataError(
                f"{self.place} lacks {len(self.missing)} of {total} files ({self.shown()}); fetch "
                "them, or prepare what is there with --allow-missing"
            )

    def shown(self) -> str:
        """The first ten missing files, in one line."""
        return examples([each.key for each in self.missing], _NAMED)

    def facts(self, counts: Mapping[str, int]) -> dict[str, Any]:
        """Entries of the summary: what is missing, and how the counts compare with the published
        ones. ``counts`` are the clouds of each split that were prepared."""
        found: dict[str, Any] = {"official_counts": dict(self.official)}
        notes = list(self.notes)
        if self.missing:
            found |= {"missing": len(self.missing), "missing_examples": self._first()}
            total = len(self.files) + len(self.missing)
            notes.append(f"Incomplete: {len(self.missing)} of {total} files were missing.")
        notes += difference(counts, self.official)
        return found | ({"note": " ".join(notes)} if notes else {})

    def there(self) -> RawCheck:
        """Which files are there, as ``sa3d data list`` asks; nothing of them was read."""
        lacking = len(self.missing)
        missing = (f"{_files(lacking)} in {self.place}: {self.shown()}",) if lacking else ()
        facts = {"files": len(self.files)}
        return RawCheck(self.place, facts, missing, notes=self.notes, found=len(self.files))

    def checked(self, looked: Looked) -> RawCheck:
        """As ``sa3d data check`` reports it."""
        found = self.there()
        facts = {
            **found.facts,
            **{f"{split} clouds": count for split, count in looked.counts.items()},
            **{f"official {split} clouds": count for split, count in self.official.items()},
            "files read": len(looked.read),
        }
        texts = [*self.lists, *(path for path in looked.read if path.suffix == ".txt")]
        notes = (
            *found.notes,
            *difference(looked.counts, self.official),
            *_windows_line_ends(texts),
        )
        return replace(found, facts=facts, problems=tuple(looked.problems), notes=notes)

    def _first(self) -> list[str]:
        return [each.key for each in self.missing[:_NAMED]]


@dataclass(frozen=True)
class Looked:
    """Result of reading raw files without keeping them: clouds of each split, problems, and the
    files that were read."""

    counts: Mapping[str, int]
    problems: Sequence[str]
    read: Sequence[Path]


def survey_of(
    place: Path,
    wanted: Iterable[RawFile],
    official: Mapping[str, int],
    notes: Sequence[str] = (),
    lists: Iterable[Path] = (),
) -> Survey:
    """Look which of the files are there.

    Raises:
        DataError: one cannot be looked at, such as a loop of symbolic links.
    """
    files: list[RawFile] = []
    missing: list[RawFile] = []
    for each in wanted:
        (missing if stamp_of(each.path) is None else files).append(each)
    return Survey(place, tuple(files), tuple(missing), official, tuple(notes), tuple(lists))


def difference(counts: Mapping[str, int], official: Mapping[str, int]) -> list[str]:
    """A sentence where counts differ from the published ones."""
    differing = [
        f"{counts.get(split, 0)} {split} clouds where {count} are published"
        for split, count in official.items()
        if counts.get(split, 0) != count
    ]
    return [f"Counts differ: {', '.join(differing)}."] if differing else []


def look_at_first(survey: Survey, read: Callable[[RawFile], object]) -> Looked:
    """Read the first cloud of every class, of files with a cloud each: whether the format is
    right, in seconds. All of them are read when the data set is prepared."""
    first: dict[int, RawFile] = {}
    for each in survey.files:
        first.setdefault(each.label, each)
    problems = list(_problems(read, first.values()))
    counts = {
        name: sum(each.split == split for each in survey.files)
        for name, split in SPLITS.items()
        if name in survey.official
    }
    return Looked(counts, problems, [each.path for each in first.values()])


def look_at_all(survey: Survey, count: Callable[[RawFile], int]) -> Looked:
    """Read every file, of files with many clouds each; ``count`` gives how many one has."""
    found: Counter[int] = Counter()

    def read(each: RawFile) -> None:
        found[each.split] += count(each)

    with ProgressBar(f"reading {survey.place.name}", len(survey.files), "files") as bar:
        problems: list[str] = []
        for each in survey.files:
            problems += _problems(read, [each])
            bar.update()
    counts = {name: found[SPLITS[name]] for name in survey.official}
    return Looked(counts, problems, [each.path for each in survey.files])


def _problems(read: Callable[[RawFile], object], files: Iterable[RawFile]) -> Iterator[str]:
    for each in files:
        try:
            read(each)
        except DataError as error:
            yield str(error)


def _windows_line_ends(texts: Iterable[Path]) -> list[str]:
    """A sentence where text files have them. They are read like others, but say that the files
    are not as they were published."""
    names = []
    for path in texts:
        with contextlib.suppress(OSError), path.open("rb") as file:  # told where it was read
            if b"\r\n" in file.read(_BEGINNING):
                names.append(path.name)
    if not names:
        return []
    shown = examples(names, _NAMED)
    return [f"Windows line ends (CRLF), which are read too, in {_files(len(names))}: {shown}."]


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def absent(place: Path, error: DataError) -> RawCheck:
    """The result of a check where not even the lists can be read."""
    return RawCheck(place, missing=(str(error),))
