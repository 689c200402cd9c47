"""``sa3d data fetch``: the raw files of a data set that have a plain public address."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import httpx

from sa3d.config.base import Frozen
from sa3d.config.obtain import how_to_make
from sa3d.data.download import Remote, client, fetch_file, name_of, part_of, probe, sha256_of
from sa3d.data.presence import about, raw_folder
from sa3d.data.raw import About, Download
from sa3d.data.unpack import NoArchiveError, unpack
from sa3d.errors import DataError, UserError
from sa3d.utils.files import check_space, size_text
from sa3d.utils.json_file import write_json
from sa3d.utils.paths import shown

LARGE = 100 * 10**6
"""Bytes above which a download is asked for first."""


def fetch(
    name: str, source: Frozen, *, agree: Callable[[str], bool], quiet: bool = False
) -> Iterator[str]:
    """Bring what the source names to its folder; yields a line for every step.

    Archives are unpacked and deleted. Of every file its address, size and sha256 are recorded
    beside it, in ``.NAME.fetched.json``; what is recorded and still there is not fetched again.

    Args:
        name: of the data set.
        source: its settings.
        agree: asks whether to go on, for large downloads and those of unknown size.
        quiet: show no progress.

    Raises:
        DataError: there is nothing to fetch, a file cannot be had, or is not what it should be;
            says how to obtain the data set otherwise. UserError: not agreed. WriteError: no space.
    """
    said, folder = about(source), raw_folder(source)
    if folder is None:
        raise DataError(f"{name} is generated, there is nothing to fetch; {how_to_make(name)}")
    if not said.downloads:
        raise DataError(f"{name} has no public address to fetch it from. {said.obtain}".strip())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".fetch.lock", timeout=0), client() as web:
            yield from _fetch(name, said, folder, web, agree, quiet)
    except filelock.Timeout:
        raise DataError(f"another process is fetching into {folder}; wait for it") from None
    except DataError as error:
        otherwise = f"\nOtherwise: {said.obtain}" if said.obtain else ""
        raise DataError(f"{error}{otherwise}") from error


def _fetch(
    name: str,
    said: About,
    folder: Path,
    web: httpx.Client,
    agree: Callable[[str], bool],
    quiet: bool,
) -> Iterator[str]:
    wanted: list[tuple[Download, Path, Remote | None]] = []
    for item in said.downloads:
        target = folder / name_of(item)
        if _is_done(item, target):
            yield f"{target.name} is there already, sha256 {_record(target)['sha256']}"
        else:
            # a file that is whole still has to be unpacked
            wanted.append((item, target, None if target.is_file() else probe(web, item)))
    missing = [(target, remote) for _, target, remote in wanted if remote is not None]
    if missing:
        yield _plan(name, said, missing)
        sizes = [remote.size for _, remote in missing]
        known = sum(size or 0 for size in sizes)
        here = sum(part_of(t).stat().st_size for t, _ in missing if part_of(t).is_file())
        check_space(folder / missing[0][0].name, max(0, known - here))
        if (None in sizes or known > LARGE) and not agree("Download it?"):
            raise UserError(f"{name}: nothing was downloaded")
    for item, target, remote in wanted:
        if remote is not None:
            remote = fetch_file(web, item, target, quiet=quiet)
        yield from _finish(item, target, remote, quiet)


def _plan(name: str, said: About, missing: list[tuple[Path, Remote]]) -> str:
    """What will be downloaded."""
    lines = [f"{name}: {said.title}. Licence: {said.licence.rstrip('.')}."]
    for target, remote in missing:
        size = "of unknown size" if remote.size is None else size_text(remote.size)
        part = part_of(target)
        begun = f", {size_text(part.stat().st_size)} are there" if part.is_file() else ""
        lines.append(f"  {target.name}, {size}{begun}, from {remote.url}")
    return "\n".join(lines)


def _finish(item: Download, target: Path, remote: Remote | None, quiet: bool) -> Iterator[str]:
    """Record a whole file, and unpack it where it is to be."""
    digest, size = sha256_of(target), target.stat().st_size
    checked = "as published" if item.sha256 else "no published one to compare with"
    yield f"{target.name}: {size_text(size)}, sha256 {digest} ({checked})"
    contents = [target.name]
    if item.unpack:
        try:
            contents = unpack(target, target.parent, quiet=quiet)
        except NoArchiveError as error:
            target.unlink()
            raise DataError(f"{error}; it was deleted. It came from {item.url}") from error
        yield f"unpacked into {shown(target.parent)}: {', '.join(contents)}"
    record = {"url": item.url, "bytes": size, "sha256": digest, "contents": contents}
    if remote is not None:
        record |= {"etag": remote.etag, "last_modified": remote.modified}
    write_json(_record_path(target), record)
    if item.unpack:
        target.unlink()


def _is_done(item: Download, target: Path) -> bool:
    """Whether it was fetched from this address and what came is still there."""
    record = _record(target)
    contents = record.get("contents")
    return (
        record.get("url") == item.url
        and isinstance(contents, list)
        and all((target.parent / str(each)).exists() for each in contents)
    )


def _record(target: Path) -> dict[str, Any]:
    try:
        tree = json.loads(_record_path(target).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _record_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.fetched.json")
