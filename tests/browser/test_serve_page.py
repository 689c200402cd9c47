"""The page of the service, as a person sees it: a file in, classes or coloured parts out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving import serving
from tests.browser.pages import browser, needs_chromium, shot
from tests.small_models import CLASSES, saved
from tests.tracking.serving import until

pytestmark = [pytest.mark.slow, needs_chromium]


def coloured(page: Any) -> int:
    """How many different colours the canvas shows, and none where it is empty."""
    found: int = page.evaluate(
        """() => {
            const canvas = document.getElementById("view");
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            const seen = new Set();
            for (let at = 0; at < data.length; at += 4)
                if (data[at + 3] > 250) seen.add(data.slice(at, at + 3).join());
            return seen.size;
        }"""
    )
    return found


def test_classes_and_what_is_no_file(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "classifier", "point-mae")
    np.save(tmp_path / "part.npy", np.random.default_rng(0).normal(size=(300, 3)))
    (tmp_path / "<b>note.txt").write_text("no cloud")
    with serving(folder, "--threads", "1") as service, browser(1100, 760, 60) as seen:
        page = seen.page
        page.goto(service.address)
        until(lambda: "3 classes" in page.inner_text("#model"))
        page.set_input_files("#file", tmp_path / "part.npy")
        until(lambda: "300 points" in page.inner_text("#status"))
        assert page.inner_text("#answer h2") in CLASSES
        assert {row.inner_text() for row in page.query_selector_all(".bar .name")} == set(CLASSES)
        assert coloured(page) >= 1
        shot(page, "serve-classes")
        page.set_input_files("#file", tmp_path / "<b>note.txt")
        until(lambda: page.get_attribute("#status", "class") == "bad")
        assert "<b>note.txt" in page.inner_text("#status")  # as text
        assert page.query_selector("#status b") is None
        assert page.query_selector(".bar") is None
        assert seen.hosts == {f"127.0.0.1:{service.port}"}


def test_parts_are_coloured_and_a_category_is_chosen(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "segmenter", "point-mae")
    np.save(tmp_path / "part.npy", np.random.default_rng(0).normal(size=(300, 3)))
    with serving(folder, "--threads", "1") as service, browser(1100, 760, 60) as seen:
        page = seen.page
        page.goto(service.address)
        until(lambda: page.is_visible("#category"))
        page.select_option("#category", "cup")
        page.set_input_files("#file", tmp_path / "part.npy")
        until(lambda: "Parts of a cup" in page.inner_text("#answer"))
        shares = page.inner_text("#legend")
        assert "%" in shares
        page.select_option("#category", "hat")
        until(lambda: "Parts of a hat" in page.inner_text("#answer"))
        assert page.inner_text("#legend").strip() == "body 100.0 %"
        shot(page, "serve-parts")
