"""Which clouds a command is given: files, folders, patterns, and names on standard input."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sa3d.data.sources.folder.files import files_below
from sa3d.errors import DataError
from sa3d.inference.clouds import Failure
from sa3d.inference.outputs import is_output

STDIN: Final = "-"


def expand(words: Iterable[str], stdin: Iterable[str]) -> tuple[list[Path], list[Failure]]:
    """The files that words of a command line mean, each once and in their order; and the words
    that mean none.

    Args:
        words: files; folders, of which all files of a known format are taken, however deep, but not
            the features, parts and indexes that this program wrote; patterns, as
            ``parts/**/*.stl``; ``-`` for the words that ``stdin`` has, one a line.
        stdin: lines.
    """
    found: dict[Path, None] = {}
    failures = []
    for word in words:
        if word == STDIN:
            lines = (line.rstrip("\r\n") for line in stdin)
            more, failed = expand((line for line in lines if line and line != STDIN), ())
            failures += failed
        else:
            try:
                more = _files(word)
            except DataError as error:
                failures.append(Failure(word, str(error)))
                continue
        found.update(dict.fromkeys(more))
    return list(found), failures


def _files(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        files = [file for file in files_below(path) if not is_output(file)]
        if not files:
            raise DataError(f"{path} holds only what this program wrote: no cloud")
        return files
    if path.exists() or not glob.has_magic(word):
        return [path]
    matches = [Path(each) for each in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207
    if not matches:
        raise DataError(f"no file fits the pattern '{word}'")
    return [file for match in matches for file in (_files(str(match)))]
