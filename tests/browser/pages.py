"""A browser as a person has it: Debian's Chromium, driven by Playwright.

What its pages ask for is written down. ``SA3D_SCREENSHOTS=FOLDER`` keeps pictures.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from tests.tracking.serving import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"
)
# without a display or a GPU, and without the browser's own calls to its maker
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# MLflow's Assistant opens by itself once in each browser; a person closes it once
ASSISTANT_CLOSED = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
_COLOURS = 256


@dataclass
class Browser:
    """One page of a browser.

    Attributes:
        page: Playwright's.
        asked: the address of every request and web socket of its pages.
    """

    page: Any
    asked: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        """Hosts with their ports that were asked; what a page holds itself has none."""
        return {urlsplit(url).netloc for url in self.asked} - {""}


@contextmanager
def browser(width: int, height: int, wait_seconds: float) -> Iterator[Browser]:
    """Open a browser; MLflow's Assistant is closed.

    Args:
        width, height: of the page.
        wait_seconds: how long any action waits for what it needs: a busy machine renders slowly.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        page = opened.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(1000 * wait_seconds)
        found = Browser(page)
        page.on("request", lambda request: found.asked.append(request.url))
        page.on("websocket", lambda socket: found.asked.append(socket.url))
        page.add_init_script(ASSISTANT_CLOSED)
        yield found
        opened.close()


def shot(page: Any, name: str) -> None:
    """Keep a picture of what is to be seen, where pictures are asked for."""
    folder = os.environ.get("SA3D_SCREENSHOTS")
    if folder is None:
        return
    from PIL import Image

    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    few = picture.quantize(_COLOURS, dither=Image.Dither.NONE)  # pages are few plain colours
    few.save(Path(folder) / f"{name}.png", optimize=True)


def open_mlflow(page: Any, address: str, path: str, **query: str) -> None:
    """Open a page of MLflow afresh: where only the part after # differs, a browser stays.

    The page's own query comes first: the page of comparison looks for ``?runs``.
    """
    page.goto("about:blank")
    asked = urlencode({**query, "workflowType": "machine_learning"}, quote_via=quote)
    page.goto(f"{address}/#/{path}?{asked}", wait_until="commit")


def curves(page: Any, metric: str) -> dict[str, list[float]]:
    """What MLflow's chart of a metric draws: the horizontal values of each run's curve."""
    drawn: dict[str, list[float]] = page.evaluate(
        """metric => Object.fromEntries(
            [...document.querySelectorAll('.js-plotly-plot')]
                .flatMap(plot => plot.data)
                .filter(line => line.metricKey === metric && line.x && line.x.length)
                .map(line => [line.name, [...line.x].map(Number)]))""",
        metric,
    )
    return drawn


def differences(page: Any) -> dict[str, list[str]]:
    """Once MLflow's comparison shows only what differs: each row's name and its values."""
    page.get_by_text("Show diff only").first.click()
    until(lambda: "model.dim" not in page.inner_text("body"))  # alike in all runs of these tests
    rows = [row.split("\t") for row in page.inner_text("body").splitlines() if "\t" in row]
    return {row[0]: row[1:] for row in rows}
