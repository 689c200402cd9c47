"""What lies in a folder: which files are clouds or meshes, and what their folders say of them.

Four layouts are known: ``class/…``, ``class/{train,test}/…``, ``{train,test}/class/…``, and files
with no folder of a class, at the top or in ``{train,test}``. ``val`` or ``validation`` beside the
two is the data set's own validation split.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sa3d import registry
from sa3d.data.readers import format_of
from sa3d.data.store import TEST, TRAIN, VALIDATION
from sa3d.errors import DataError
from sa3d.utils.text import examples

SPLITS: Final = {
    "train": TRAIN,
    "test": TEST,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
}
_IGNORED = "__MACOSX"
_SHOWN = 5


@dataclass(frozen=True)
class Found:
    """A file that is to be read.

    Attributes:
        path: where it is.
        place: its path below the folder, with slashes.
        kind: its format, as ``registry.READERS`` has it.
        class_name: name of its class.
        split: ``TRAIN``, ``TEST`` or ``VALIDATION``; None where the folder does not say.
        name: its place without class, split and suffix, which is what families show in.
    """

    path: str
    place: str
    kind: str
    class_name: str
    split: int | None
    name: str

    @property
    def id(self) -> str:
        """Its place without the suffix: unique in the data set."""
        return self.place[: -len(self.kind) - 1]


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        files: what is to be read, in the order of their places.
        problems: why no data set can be made of it, one line each.
        notes: worth knowing and no fault.
        labelled: False where no folder names a class.
    """

    files: tuple[Found, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    labelled: bool = True

    @property
    def split_given(self) -> bool:
        """Whether the folder says what is training and what test."""
        return any(file.split is not None for file in self.files)


@dataclass
class _Tree:
    """Paths below a folder, by their parts."""

    known: list[tuple[str, ...]] = field(default_factory=list)
    other: list[tuple[str, ...]] = field(default_factory=list)
    folders: list[tuple[str, ...]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def list_folder(root: Path, formats: Iterable[str] = ()) -> Listing:
    """Everything below ``root``; opens no file. ``formats``: those to read, by default all."""
    if not root.is_dir():
        return Listing(problems=(f"no folder {root}: put your files there, or change `root`",))
    tree = _walk(root, frozenset(formats) or frozenset(registry.READERS))
    listing = _Layout(root, tree).listing()
    problems = [
        *tree.problems,
        *listing.problems,
        *_two_of_one_id(listing.files),
        *_unwritable_names(listing.files),
    ]
    return Listing(listing.files, tuple(problems), listing.notes, listing.labelled)


def files_below(root: Path) -> list[Path]:
    """Every file of a known format below ``root``, in order, whatever its folders mean.

    Raises:
        DataError: there is none, a folder that cannot be looked into, or a link in a circle.
    """
    tree = _walk(root, frozenset(registry.READERS))
    if tree.problems:
        raise DataError(f"{root}: {tree.problems[0]}")
    if not tree.known:
        raise DataError(f"{root} holds no file of a known format ({_formats()})")
    return [root.joinpath(*parts) for parts in sorted(tree.known)]


class _Layout:
    """Which of the layouts a tree has, and what that makes of its files."""

    def __init__(self, root: Path, tree: _Tree) -> None:
        self.root, self.tree = root, tree
        self.top = sorted({path[0] for path in tree.folders})
        self.problems: list[str] = []
        self.notes: list[str] = []

    def listing(self) -> Listing:
        named = [name for name in self.top if name.lower() in SPLITS]
        if (len(named) == len(self.top) and named) or _both(named):
            self._top_is_split(named)
            depth = 1 if any(len(path) > 2 for path in self.tree.known) else None
            files = self._files(split=0, label=depth)
        else:
            inner = [path for path in self.tree.folders if len(path) == 2]
            divided = any(
                _both([path[1] for path in inner if path[0] == name]) for name in self.top
            )
            depth = 0 if any(len(path) > 1 for path in self.tree.known) else None
            files = self._files(split=1 if divided else None, label=depth)
        labelled = depth is not None
        self._check(files, labelled)
        other = Counter(_suffix(path[-1]) for path in self.tree.other)
        if other:
            kinds = ", ".join(f"{count} {kind}" for kind, count in other.most_common(_SHOWN))
            self.notes.append(f"{_files_are(other.total(), 'of other formats')} not read: {kinds}")
        return Listing(tuple(files), tuple(self.problems), tuple(self.notes), labelled)

    def _top_is_split(self, named: list[str]) -> None:
        others = [name for name in self.top if name not in named]
        if others:
            self.problems.append(
                f"{self.root} has the folders {examples(others)} beside {examples(named)}: put "
                "every class into the folders of the split, or none"
            )

    def _files(self, split: int | None, label: int | None) -> list[Found]:
        """The files of which the folders at depth ``split`` and ``label`` say split and class."""
        found, outside = [], []
        deepest = max((depth for depth in (split, label) if depth is not None), default=-1)
        for path in self.tree.known:
            said = path[split].lower() if split is not None and len(path) > split + 1 else None
            if len(path) - 1 <= deepest or (split is not None and said not in SPLITS):
                outside.append("/".join(path))
                continue
            rest = [part for at, part in enumerate(path) if at not in (split, label)]
            kind = format_of(path[-1])
            found.append(
                Found(
                    path=str(self.root.joinpath(*path)),
                    place="/".join(path),
                    kind=kind,
                    class_name=path[label] if label is not None else "all",
                    split=None if said is None else SPLITS[said],
                    name="/".join(rest)[: -len(kind) - 1],
                )
            )
        at_top = [place for place in outside if "/" not in place]
        deeper = [place for place in outside if "/" in place]
        if at_top:
            self.notes.append(
                f"{_files_are(len(at_top), 'beside the folders')} not read: {examples(at_top)}"
            )
        if deeper:
            self.problems.append(
                f"{_files_are(len(deeper))} in no folder of the split or class: {examples(deeper)}"
            )
        return sorted(found, key=lambda file: file.place)

    def _check(self, files: list[Found], labelled: bool) -> None:
        if not files:
            self.problems.append(f"{self.root} holds no file of a known format ({_formats()})")
            return
        if labelled:
            self._check_classes(files)
        splits = {file.split for file in files}
        if splits != {None} and not {TRAIN, TEST} <= splits:
            self.problems.append(
                f"{self.root} has no files in `{'train' if TRAIN not in splits else 'test'}`: a "
                "split has train and test folders, and may have val"
            )

    def _check_classes(self, files: list[Found]) -> None:
        full = {file.class_name for file in files}
        at = 1 if self.top and all(name.lower() in SPLITS for name in self.top) else 0
        every = {path[at] for path in self.tree.folders if len(path) > at}
        for name in sorted(every - full):
            self.problems.append(
                f"the class folder '{name}' holds no file of a known format; fill or remove it"
            )
        of_class: dict[str, set[int | None]] = defaultdict(set)
        for file in files:
            of_class[file.class_name].add(file.split)
        for name, splits in of_class.items():
            if splits != {None} and TRAIN not in splits:
                self.problems.append(f"class '{name}' has no file to train on")


def _files_are(count: int, which: str = "") -> str:
    """``1 file is``, ``2 files of other formats are``."""
    words = (str(count), "file" if count == 1 else "files", which, "is" if count == 1 else "are")
    return " ".join(word for word in words if word)


def _formats() -> str:
    return ", ".join(f".{name}" for name in registry.READERS)


def _both(names: Iterable[str]) -> bool:
    return {"train", "test"} <= {name.lower() for name in names}


def _walk(root: Path, formats: frozenset[str]) -> _Tree:
    """Everything below ``root`` but hidden things; links are followed, but not in a circle."""
    tree = _Tree()
    above: list[tuple[int, int]] = []

    def enter(folder: str, parts: tuple[str, ...]) -> None:
        status = os.stat(folder)  # noqa: PTH116
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            tree.problems.append(f"the link {'/'.join(parts)} leads back to a folder above it")
            return
        above.append(identity)
        if parts:
            tree.folders.append(parts)
        for entry in _entries(folder):
            place = (*parts, entry.name)
            if entry.is_dir():
                enter(entry.path, place)
            elif format_of(entry.name) in formats:
                tree.known.append(place)
            else:
                tree.other.append(place)
        above.pop()

    try:
        enter(str(root), ())
    except OSError as error:
        tree.problems.append(f"cannot look into {error.filename}: {error.strerror}")
    return tree


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        visible = [e for e in entries if not e.name.startswith(".") and e.name != _IGNORED]
    return iter(sorted(visible, key=lambda entry: entry.name))


def _two_of_one_id(files: Iterable[Found]) -> list[str]:
    of_id: dict[str, list[str]] = defaultdict(list)
    for file in files:
        of_id[file.id].append(file.place)
    twice = [places for places in of_id.values() if len(places) > 1]
    if not twice:
        return []
    return [
        f"{len(twice)} names stand for several files, as {' and '.join(twice[0])}: remove all but "
        "one, or name the suffix to read in `formats`"
    ]


def _unwritable_names(files: Iterable[Found]) -> list[str]:
    """Names in bytes that are no text cannot be ids."""
    bad = [
        file.place for file in files if file.place.encode(errors="replace") != _bytes(file.place)
    ]
    return [f"{len(bad)} names are not valid UTF-8, as {bad[0]!a}: rename them"] if bad else []


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def _suffix(name: str) -> str:
    return f".{format_of(name)}" if format_of(name) else "without suffix"
