"""What of a lineage can be checked on this machine, and what was found."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sa3d.checkpoints.card import WEIGHTS_FILE
from sa3d.config.endless import EndlessSource, digest_of
from sa3d.config.loading import endless_names, load_source
from sa3d.errors import UserError
from sa3d.runs.fingerprint import data_digest
from sa3d.tracking import lineage
from sa3d.utils import paths

_GIT_SECONDS = 30.0
State = Literal["holds", "wrong", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One statement, checked here.

    Attributes:
        state: it holds, it is wrong, or that cannot be told here.
        text: what was found, or why nothing can be.
    """

    state: State
    text: str


def data(name: str, digest: str | None, md5: str | None) -> list[Finding]:
    """The processed file of a data set, against the digest and DVC's hash that a run noted.

    The digest is the one that the file states of its content; the hash is of its bytes.
    """
    if paths.params_file().is_file() and name in endless_names():
        return _endless(name, digest)
    file = paths.processed(name)
    if not file.is_file():
        pull = f"dvc pull {shlex.quote(f'prepare@{name}')}"
        return [Finding("unknown", f"{paths.shown(file)} is not here (`{pull}` brings it)")]
    found = []
    if digest is not None:
        try:
            here = data_digest(file)
        except UserError as error:
            return [Finding("wrong", str(error))]
        if here == digest:
            found.append(Finding("holds", f"{paths.shown(file)} has this digest"))
        else:
            found.append(Finding("wrong", f"{paths.shown(file)} has digest {here[:12]}"))
    if md5 is not None:
        same = _hash("md5", file) == md5
        text = f"{paths.shown(file)} has {'this' if same else 'another'} md5"
        found.append(Finding("holds" if same else "wrong", text))
    return found or [Finding("unknown", "no digest was noted")]


def _endless(name: str, digest: str | None) -> list[Finding]:
    """A data set without a file. A run may have changed its settings, so another digest proves
    nothing."""
    source = load_source(name)
    assert isinstance(source, EndlessSource)
    if digest is None:
        return [Finding("unknown", "no digest was noted")]
    if digest_of(source) == digest:
        return [Finding("holds", "these settings and this generator give this digest")]
    text = f"{paths.shown(paths.params_file().resolve())} or this generator give another digest"
    return [Finding("unknown", text)]


def commit(sha: str | None, dirty: str | None) -> list[Finding]:
    """Whether a commit is in this clone, and whether it says all of the code."""
    if sha is None:
        return [Finding("unknown", "no commit was noted: not run in a git checkout")]
    found = []
    if "git.commit" not in lineage.git():
        found.append(Finding("unknown", "this is no git checkout: the commit cannot be looked up"))
    elif (there := _has_commit(sha)) is None:
        found.append(Finding("unknown", "git cannot be asked here whether it has the commit"))
    elif there:
        found.append(Finding("holds", "the commit is in this clone"))
    else:
        found.append(Finding("unknown", "the commit is not in this clone (git fetch may bring it)"))
    if dirty == "true":
        text = "files differed from the commit: it does not say all of the code"
        found.append(Finding("unknown", text))
    return found


def weights(folder: Path | None, sha256: str | None) -> list[Finding]:
    """The exported weights in a run folder, against the sha256 that is noted of them."""
    if folder is None or sha256 is None:
        return []
    file = folder / "model" / WEIGHTS_FILE
    if not file.is_file():
        return [Finding("unknown", f"{paths.shown(file)} is not here")]
    if _hash("sha256", file) == sha256:
        return [Finding("holds", f"{paths.shown(file)} has this sha256")]
    return [Finding("wrong", f"{paths.shown(file)} has another sha256")]


def _hash(kind: str, file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, kind).hexdigest()


def _has_commit(sha: str) -> bool | None:
    """None: there is no git here, as in an image that was told its commit, or it is too slow."""
    words = ["git", "-C", str(paths.root()), "cat-file", "-e", f"{sha}^{{commit}}"]
    try:
        asked = subprocess.run(words, capture_output=True, check=False, timeout=_GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.returncode == 0
