"""One file from a web server, whole or not at all, and going on where an earlier try stopped.

What has come lies in ``NAME.part``, and beside it, hidden, what the server said of the file. A try
that goes on asks for the rest only of the very same file: by its ETag or date (``If-Range``), or,
from servers that give neither, by its length. Whatever else the server answers begins anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from sa3d.data.raw import Download
from sa3d.errors import DataError
from sa3d.utils.files import unwritable
from sa3d.utils.json_file import write_json
from sa3d.utils.progress import ProgressBar

TRIES = 5
"""Tries without a byte more than before, until it is given up."""
PAUSE = 1.0  # seconds before the second of these tries; doubled for each further one
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_BLOCK = 1 << 20
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Remote:
    """What a server says of a file; None and empty where it does not say.

    ``etag`` and ``modified`` are its validators: they change with the content.
    """

    url: str
    size: int | None
    etag: str = ""
    modified: str = ""

    @property
    def validator(self) -> str:
        """What ``If-Range`` may hold: a strong ETag, else a date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class _TryAgainError(Exception):
    """The connection broke off, the server is busy, or the file changed meanwhile."""


def client() -> httpx.Client:
    """An HTTP client as all of this expects it."""
    # raw bytes: a length or a checksum of compressed ones would mean nothing
    return httpx.Client(
        follow_redirects=True,
        timeout=httpx.Timeout(60.0, connect=20.0),
        headers={"Accept-Encoding": "identity", "User-Agent": "sa3d"},
    )


def name_of(item: Download) -> str:
    """File name of a download: the last part of its address.

    Raises:
        DataError: an address that has none, or that is not of the web.
    """
    url = httpx.URL(item.url)
    name = Path(url.path).name
    if url.scheme not in ("http", "https") or not name or name.startswith("."):
        raise DataError(f"{item.url} is not the web address of a file")
    return name


def part_of(target: Path) -> Path:
    """Where an unfinished ``target`` lies."""
    return target.with_name(f"{target.name}.part")


def probe(web: httpx.Client, item: Download) -> Remote:
    """Ask what the server has, without reading it.

    Raises:
        DataError: no such server or file, a web page in its place, another size than published.
    """
    for left in reversed(range(TRIES)):
        try:
            with web.stream("GET", item.url) as response:
                return _remote(response, item)
        except (httpx.TransportError, _TryAgainError) as error:
            if left == 0 or isinstance(error, httpx.ConnectError):
                raise _unreachable(item, error) from error
        except httpx.TooManyRedirects as error:
            raise _unreachable(item, error) from error
        time.sleep(PAUSE)
    raise AssertionError("the last try returns or raises")


def fetch_file(web: httpx.Client, item: Download, target: Path, *, quiet: bool = False) -> Remote:
    """Bring ``item`` to ``target``.

    Raises:
        DataError: as :func:`probe`; the connection broke off again and again (what has come is
            kept); a wrong checksum (nothing is kept). WriteError: a full disk, no permission.
    """
    part = part_of(target)
    furthest, failed = _size(part), 0
    while True:
        try:
            remote = _try(web, item, part, quiet)
            break
        except (httpx.TransportError, _TryAgainError) as error:
            failed = 0 if _size(part) > furthest else failed + 1
            furthest = max(furthest, _size(part))
            if failed >= TRIES:
                known = _recorded(part)
                of = f" of {known.size}" if known and known.size is not None else ""
                raise DataError(
                    f"{item.url}: no more than {furthest}{of} bytes came in {TRIES} tries "
                    f"({_words(error)}); the same command goes on from there"
                ) from error
            time.sleep(PAUSE * 2 ** max(0, failed - 1))
        except httpx.TooManyRedirects as error:
            raise _unreachable(item, error) from error
        except OSError as error:
            raise unwritable(target, error) from error
    _verify(item, part)
    part.replace(target)
    _record_of(part).unlink(missing_ok=True)
    return remote


def sha256_of(path: Path) -> str:
    """sha256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _try(web: httpx.Client, item: Download, part: Path, quiet: bool) -> Remote:
    """One request: the rest of what lies in ``part``, or all of it."""
    known, have = _recorded(part), _size(part)
    if known is None or known.url != item.url or (not known.validator and known.size is None):
        known, have = None, 0  # nothing says that the rest would fit
    headers = {}
    if known is not None and have:
        headers["Range"] = f"bytes={have}-"
        if known.validator:
            headers["If-Range"] = known.validator
    with web.stream("GET", item.url, headers=headers) as response:
        if response.status_code == 416 and known is not None:
            total = response.headers.get("content-range", "").rpartition("/")[2]
            if total == str(have) and known.size in (None, have):
                return known  # it was all there
            part.unlink()
            raise _TryAgainError("the file on the server has another length now")
        remote = _remote(response, item)
        if response.status_code == 206:
            if known is None or not _continues(response, remote, known, have):
                part.unlink(missing_ok=True)
                raise _TryAgainError("the file on the server has changed")
        else:
            have = 0
            write_json(_record_of(part), asdict(remote))
        with part.open("ab" if have else "wb") as file:
            _copy(response, file, have, remote.size, part.stem, quiet)
    if remote.size is not None and _size(part) != remote.size:
        raise _TryAgainError("the connection was closed early")
    return remote


def _copy(
    response: httpx.Response, file: Any, have: int, size: int | None, label: str, quiet: bool
) -> None:
    total = None if size is None else -(-size // _BLOCK)
    with ProgressBar(label, total, "MiB", initial=have // _BLOCK, quiet=quiet) as bar:
        done = have
        try:
            for block in response.iter_raw():  # of any size: none waits in a buffer
                file.write(block)
                bar.update((done + len(block)) // _BLOCK - done // _BLOCK)
                done += len(block)
        finally:
            file.flush()
            os.fsync(file.fileno())


def _remote(response: httpx.Response, item: Download) -> Remote:
    """What a good answer says of the whole file; whatever is not one is raised."""
    code, headers = response.status_code, response.headers
    if code in _TRANSIENT:
        raise _TryAgainError(f"the server answers {code}")
    if code not in (200, 206):
        raise DataError(
            f"{item.url}: the server answers {code} {response.reason_phrase}; the file may have "
            "moved"
        )
    if item.url.startswith("https:") and response.url.scheme != "https":
        raise DataError(f"{item.url} leads to {response.url}, which is not encrypted; refused")
    if "text/html" in headers.get("content-type", "") and not item.url.endswith((".html", ".htm")):
        raise DataError(
            f"{item.url}: the server answers with a web page in place of the file; it may have "
            "moved, or want a login"
        )
    length = headers.get("content-length", "")
    if code == 206:
        length = headers.get("content-range", "").rpartition("/")[2]
    size = int(length) if length.isdigit() else None
    if None not in (size, item.size) and size != item.size:
        raise DataError(
            f"{item.url} has {size} bytes, {item.size} are published: it is another file"
        )
    return Remote(item.url, size, headers.get("etag", ""), headers.get("last-modified", ""))


def _continues(response: httpx.Response, now: Remote, then: Remote, have: int) -> bool:
    """Whether a partial answer is the rest of the file of which we have the beginning."""
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    return (
        found is not None
        and int(found[1]) == have
        and now.size == then.size
        and now.etag == then.etag
        and now.modified == then.modified
    )


def _verify(item: Download, part: Path) -> None:
    if item.sha256 is None:
        return
    found = sha256_of(part)
    if found != item.sha256.lower():
        part.unlink()
        _record_of(part).unlink(missing_ok=True)
        raise DataError(
            f"{item.url}: the sha256 is {found}, published is {item.sha256}; what came was "
            "deleted. Try again; if it stays so, the file on the server is another one"
        )


def _record_of(part: Path) -> Path:
    return part.with_name(f".{part.name}.json")


def _recorded(part: Path) -> Remote | None:
    """What the server said of an unfinished file; None: there is none, or nothing is known."""
    if not part.is_file():
        return None
    try:
        return Remote(**json.loads(_record_of(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _unreachable(item: Download, error: Exception) -> DataError:
    return DataError(f"{item.url} cannot be reached ({_words(error)}); its server may be gone")


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
