"""What a data source says of itself and of its raw files. Importing this costs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa3d.utils import paths


@dataclass(frozen=True)
class Download:
    """A file with a plain public address.

    Attributes:
        url: its address.
        size: bytes; None where nobody has published it.
        sha256: of its content; None where nobody has published it.
        unpack: it is an archive whose content belongs into the source's folder.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    unpack: bool = False


@dataclass(frozen=True)
class About:
    """A public data set, for people.

    Attributes:
        title: its name as papers write it.
        purpose: what it is used for here, in a few words.
        licence: on what terms its owners give it.
        homepage: where it is described.
        obtain: how to get it and where its files belong, in one or two sentences.
        size: of the raw files, in words.
        downloads: files with a plain public address; empty: it must be asked for, or is generated.
    """

    title: str
    purpose: str
    licence: str
    homepage: str = ""
    obtain: str = ""
    size: str = ""
    downloads: tuple[Download, ...] = ()


@dataclass(frozen=True)
class RawCheck:
    """What is there of a source's raw files.

    Attributes:
        place: the folder or file looked at; None for a generated set.
        facts: counts and the like, by name: ``{"train clouds": 9843, "official": 9843}``.
        missing: what is not there and where it belongs, one line each.
        problems: what is there and wrong (NaN, wrong width, labels out of range, ...), with the
            file's name, one line each.
        notes: worth knowing and no fault, such as Windows line ends.
        found: how many of its own files are there; None: every file at ``place`` is its own.
    """

    place: Path | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    found: int | None = None

    @property
    def fine(self) -> bool:
        """Whether the data set can be prepared from it."""
        return not self.missing and not self.problems


def raw_root(root: str) -> Path:
    """A source's ``root``, taken from the project's root when relative."""
    return paths.params_file().resolve().parent / Path(root).expanduser()
