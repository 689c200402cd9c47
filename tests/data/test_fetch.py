"""Downloads arrive whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from archives import CLOUDS
from web_server import Web, serving

from sa3d.config.base import Frozen
from sa3d.data import download, presence
from sa3d.data import fetch as fetching
from sa3d.data.download import client, fetch_file, part_of
from sa3d.data.raw import About, Download
from sa3d.errors import DataError, UserError, WriteError
from sa3d.utils import files

CONTENT = bytes(range(256)) * 40
OTHER = CONTENT[::-1]
LENGTHS = (OTHER[:5000], OTHER + b"more", OTHER[:1000])


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web(CONTENT)) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.0)


def got(web: Web, target: Path, **facts: object) -> bytes:
    """The file at ``target`` after one command."""
    item = Download(f"{web.address}/clouds.bin", **facts)  # type: ignore[arg-type]
    with client() as session:
        fetch_file(session, item, target, quiet=True)
    assert sorted(each.name for each in target.parent.iterdir()) == [target.name]
    return target.read_bytes()


def given_up(web: Web, target: Path, **facts: object) -> str:
    """The message of a command that fails; nothing is at ``target``."""
    with pytest.raises(DataError) as caught:
        got(web, target, **facts)
    assert not target.exists()
    return str(caught.value)


# --- one file ----------------------------------------------------------------------------


def test_a_connection_that_drops_is_taken_up_where_it_broke(web: Web, tmp_path: Path) -> None:
    web.drops = [1000, 0, 2000]
    assert got(web, tmp_path / "x") == CONTENT
    assert web.asked == ["", "bytes=1000-", "bytes=1000-", "bytes=3000-"]


def test_a_later_command_goes_on(web: Web, tmp_path: Path) -> None:
    web.drops = [4000, *[0] * download.TRIES]
    said = given_up(web, tmp_path / "x")
    assert f"no more than 4000 of {len(CONTENT)} bytes came in {download.TRIES} tries" in said
    assert part_of(tmp_path / "x").read_bytes() == CONTENT[:4000]
    web.asked.clear()
    assert got(web, tmp_path / "x") == CONTENT
    assert web.asked == ["bytes=4000-"]


@pytest.mark.parametrize("validators", [True, False])
def test_a_server_without_ranges_begins_anew(web: Web, tmp_path: Path, validators: bool) -> None:
    web.ranges, web.validators, web.drops = False, validators, [1000, 500]
    assert got(web, tmp_path / "x") == CONTENT


@pytest.mark.parametrize(
    ("new", "validators"),
    [
        (OTHER, True),  # without ETag, date or another length no client could tell
        *((new, given) for new in LENGTHS for given in (True, False)),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else str(len(value)),
)
def test_a_file_that_changes_between_tries_is_never_glued(
    web: Web, tmp_path: Path, new: bytes, validators: bool
) -> None:
    web.validators = validators
    web.drops = [2000, *[0] * download.TRIES]
    given_up(web, tmp_path / "x")
    web.content = new
    assert got(web, tmp_path / "x") == new


def test_a_server_that_ignores_if_range_is_caught_by_the_etag(web: Web, tmp_path: Path) -> None:
    web.drops = [2000, *[0] * download.TRIES]
    given_up(web, tmp_path / "x")
    old, web.content = web.etag, OTHER

    def lying(request: httpx.Request) -> httpx.Response:
        begin = int(request.headers.get("Range", "bytes=0-")[6:-1])
        headers = {"ETag": web.etag}
        if not begin:
            return httpx.Response(200, headers=headers, stream=httpx.ByteStream(OTHER))
        headers["Content-Range"] = f"bytes {begin}-{len(OTHER) - 1}/{len(OTHER)}"
        return httpx.Response(206, headers=headers, stream=httpx.ByteStream(OTHER[begin:]))

    item = Download(f"{web.address}/clouds.bin")
    with httpx.Client(transport=httpx.MockTransport(lying)) as session:
        fetch_file(session, item, tmp_path / "x", quiet=True)
    assert old != web.etag
    assert (tmp_path / "x").read_bytes() == OTHER


def test_a_part_of_another_address_or_of_unknown_origin_is_not_used(
    web: Web, tmp_path: Path
) -> None:
    part_of(tmp_path / "x").write_bytes(b"of unknown origin")
    assert got(web, tmp_path / "x") == CONTENT
    assert web.asked == [""]


@pytest.mark.parametrize("claimed", [len(CONTENT) + 100, 10 * len(CONTENT)])
def test_a_length_that_never_comes_ends_in_an_error(web: Web, tmp_path: Path, claimed: int) -> None:
    web.length = claimed
    said = given_up(web, tmp_path / "x")
    assert f"no more than {len(CONTENT)} bytes came" in said
    assert "has another length" in said


def test_a_length_that_is_too_short_is_caught_by_what_is_published(
    web: Web, tmp_path: Path
) -> None:
    web.length = 100
    size = len(CONTENT)
    assert f"has 100 bytes, {size} are published" in given_up(web, tmp_path / "x", size=size)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert "the sha256 is" in given_up(web, tmp_path / "y", sha256=digest)
    assert not part_of(tmp_path / "y").exists()


def test_without_any_length_the_end_is_the_end(web: Web, tmp_path: Path) -> None:
    web.length = -1
    assert got(web, tmp_path / "x", sha256=hashlib.sha256(CONTENT).hexdigest()) == CONTENT


@pytest.mark.parametrize(("status", "said"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_a_refusal_is_not_tried_again(web: Web, tmp_path: Path, status: int, said: str) -> None:
    web.statuses = [status]
    assert said in given_up(web, tmp_path / "x")
    assert web.asked == []


def test_a_busy_server_is_asked_again(web: Web, tmp_path: Path) -> None:
    web.statuses = [503, 500, 429]
    assert got(web, tmp_path / "x") == CONTENT


def test_redirects_are_followed_but_not_for_ever(web: Web, tmp_path: Path) -> None:
    web.redirect = f"{web.address}/moved"
    assert got(web, tmp_path / "x") == CONTENT
    web.redirect = f"{web.address}/again"
    assert "redirect" in given_up(web, tmp_path / "y")


def test_an_encrypted_address_must_not_lead_to_a_plain_one(tmp_path: Path) -> None:
    def moved(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "https":
            return httpx.Response(302, headers={"Location": "http://elsewhere.test/x"})
        return httpx.Response(200, content=CONTENT)

    transport = httpx.MockTransport(moved)
    with (
        httpx.Client(transport=transport, follow_redirects=True) as session,
        pytest.raises(DataError, match="not encrypted"),
    ):
        fetch_file(session, Download("https://safe.test/x.zip"), tmp_path / "x", quiet=True)


def test_a_web_page_in_place_of_the_file(web: Web, tmp_path: Path) -> None:
    web.kind = "text/html; charset=utf-8"
    assert "a web page in place of the file" in given_up(web, tmp_path / "x")


def test_no_server(tmp_path: Path) -> None:
    with serving(Web()) as gone:
        pass
    with client() as session, pytest.raises(DataError, match="its server may be gone"):
        download.probe(session, Download(f"{gone.address}/x.zip"))


# --- a data set --------------------------------------------------------------------------

Fetched = Callable[..., list[str]]


@pytest.fixture
def fetched(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetched:
    """One command for a data set of one archive; its lines."""
    web.content = CLOUDS

    def run(agree: bool = True, **facts: object) -> list[str]:
        item = Download(f"{web.address}/clouds.zip", unpack=True, **facts)  # type: ignore[arg-type]
        said = About("Clouds", "tests", "Ours.", obtain="Ask for it.", downloads=(item,))
        monkeypatch.setattr(presence, "about", lambda _: said)
        monkeypatch.setattr(fetching, "about", lambda _: said)
        monkeypatch.setattr(fetching, "raw_folder", lambda _: tmp_path / "raw")
        return list(fetching.fetch("set", Frozen(), agree=lambda _: agree, quiet=True))

    return run


def visible(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))


def test_a_data_set_is_fetched_once(fetched: Fetched, web: Web, tmp_path: Path) -> None:
    digest = hashlib.sha256(CLOUDS).hexdigest()
    said = "\n".join(fetched())
    assert "set: Clouds. Licence: Ours.\n" in said
    assert f"clouds.zip, {len(CLOUDS)} bytes, from {web.address}/clouds.zip" in said
    assert f"sha256 {digest} (no published one to compare with)" in said
    assert visible(tmp_path / "raw") == ["clouds"]
    record = json.loads((tmp_path / "raw" / ".clouds.zip.fetched.json").read_text())
    assert record == {
        "url": f"{web.address}/clouds.zip",
        "bytes": len(CLOUDS),
        "sha256": digest,
        "contents": ["clouds"],
        "etag": web.etag,
        "last_modified": "",
    }
    web.asked.clear()
    assert fetched() == [f"clouds.zip is there already, sha256 {digest}"]
    assert web.asked == []
    shutil.rmtree(tmp_path / "raw" / "clouds")
    assert len(fetched(sha256=digest)) == 3  # what was deleted is fetched again


def test_a_web_page_that_says_it_is_a_zip_is_deleted(
    fetched: Fetched, web: Web, tmp_path: Path
) -> None:
    web.content = b"<html>We have moved</html>"
    with pytest.raises(DataError, match=r"it is a web page; it was deleted.*\nOtherwise: Ask"):
        fetched()
    assert visible(tmp_path / "raw") == []


def test_an_archive_that_cannot_be_unpacked_yet_is_not_fetched_again(
    fetched: Fetched, web: Web, tmp_path: Path
) -> None:
    (tmp_path / "raw" / "clouds").mkdir(parents=True)
    with pytest.raises(DataError, match="is there already; move it away"):
        fetched()
    (tmp_path / "raw" / "clouds").rmdir()
    web.asked.clear()
    fetched()
    assert web.asked == []
    assert visible(tmp_path / "raw") == ["clouds"]


def test_large_downloads_are_asked_for(
    fetched: Fetched, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LARGE", 10)
    with pytest.raises(UserError, match="nothing was downloaded"):
        fetched(agree=False)
    assert visible(tmp_path / "raw") == []
    monkeypatch.setattr(fetching, "LARGE", 10**9)
    web.length = -1  # who knows how large it is
    with pytest.raises(UserError, match="nothing was downloaded"):
        fetched(agree=False)


def test_without_space_nothing_begins(
    fetched: Fetched, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WriteError, match="free"):
        fetched()
    assert visible(tmp_path / "raw") == []


def test_a_source_without_an_address_says_how_to_obtain_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "about", lambda _: About("X", "", "", obtain="Ask for it."))
    monkeypatch.setattr(fetching, "raw_folder", lambda _: tmp_path)
    with pytest.raises(DataError, match=r"no public address to fetch it from\. Ask for it\."):
        list(fetching.fetch("x", Frozen(), agree=lambda _: True))
