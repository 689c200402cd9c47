"""The documentation site as a reader sees it: in Chromium, by day and by night, on a telephone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.pages import browser, needs_chromium, shot

pytestmark = [pytest.mark.slow, pytest.mark.stack, needs_chromium]
PAGES = {
    "home": "",
    "tutorial": "tutorial/",
    "method": "method/",
    "command": "reference/commands/sa3d-pretrain/",
    "settings": "reference/settings/methods/",
    "python": "reference/api/sa3d/",
}
WINDOWS = {"wide": (1400, 900), "telephone": (390, 844)}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", WINDOWS)
def test_pages_are_whole_and_fit_the_window(address: str, window: str, scheme: str) -> None:
    with browser(*WINDOWS[window], wait_seconds=60) as opened:
        page = opened.page
        page.emulate_media(color_scheme=scheme)
        for name, path in PAGES.items():
            page.goto(f"{address}/{path}", wait_until="networkidle")
            assert page.locator("h1").first.is_visible()
            too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(too_wide) <= 0, f"{name} is wider than the window"
            broken = (
                "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
            )
            assert page.evaluate(broken) == []
            shown = page.evaluate("document.body.getAttribute('data-md-color-scheme')")
            assert shown == {"light": "default", "dark": "slate"}[scheme]
            shot(page, f"site-{name}-{window}-{scheme}")
        assert opened.hosts == {urlsplit(address).netloc}


def test_the_search_finds_a_setting(address: str) -> None:
    with browser(*WINDOWS["wide"], wait_seconds=60) as opened:
        opened.page.goto(address)
        opened.page.get_by_role("textbox", name="Search").fill("half_schedule")
        result = opened.page.locator(".md-search-result__link").first
        result.wait_for()
        assert "reference/settings/masks" in result.get_attribute("href")
        assert opened.hosts == {urlsplit(address).netloc}
