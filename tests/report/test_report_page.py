import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import invented
import numpy as np
import pytest
from invented import write
from PIL import Image

from sa3d.errors import DataError, UserError
from sa3d.metrics import names as keys
from sa3d.report import write_report
from sa3d.report.comparison import Cell, task_rows
from sa3d.report.render import height_correlation
from sa3d.report.results import read_experiment
from sa3d.viz.explain import Explained

CLOUDS = 2
LOADS = {"src", "srcset", "poster", "data", "action", "background"}


class Reader(HTMLParser):
    """Text, addresses that a browser would load, and links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.loads, self.links, self._skip = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._skip = tag in ("style", "script")
        for key, value in attrs:
            if key in LOADS or (key == "href" and tag != "a"):
                self.loads.append(value or "")
            elif key == "href":
                self.links.append(value or "")

    def handle_endtag(self, tag):
        self._skip = False

    def handle_data(self, data):
        if not self._skip:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("whole")
    page = write_report(write(base / "in", clouds=CLOUDS, epochs=20), base / "out")
    assert page == base / "out" / "report.html"
    return base / "out"


def literal(base: Path, **changes) -> Path:
    """Ten test clouds; fine-tuning gets 8, 7 and 3 of them right; the SVM of one arm failed."""
    nodes = {}
    for name, right in (("classify-method", 8), ("classify-baseline", 7), ("classify-scratch", 3)):
        folder = base / name
        folder.mkdir(parents=True)
        matrix = [[right - 1, 10 - right], [0, 1]]
        (folder / "result.json").write_text(json.dumps({
            "protocol": {"selected_epoch": 4},
            "metrics": {keys.TEST_ACC: right / 10, keys.TEST_LAST: right / 10 - 0.1},
            "confusion": {"matrix": matrix, "class_names": ["pin", "socket"]},
            "data": {"name": "tiny", "floor": 0.42, "test": 10}}))  # fmt: skip
        nodes[name] = {
            "status": "finished", "run_dir": str(folder), "seconds": 61.0,
            "mlflow_run_id": "a1b2c3d4e5", "mlflow_url": "http://127.0.0.1:5000/#/r/1",
        }  # fmt: skip
    nodes["svm-method"] = {"status": "failed", "error": "exit status 2: the disk is full"}
    nodes["svm-baseline"] = {"status": "skipped", "error": ""}
    results = {
        "experiment": {"name": "tiny", "data": {"name": "tiny"}, "tasks": ["svm", "classify"],
                       "pretrain": {"method": "sa3d", "mask": "gc"},
                       "baseline": {"mask": "random"}, "classify": {"epochs": 9}},
        "nodes": nodes, "seed": 3, "command": "make tiny", "wall_seconds": 200,
    } | changes  # fmt: skip
    path = base / "results.json"
    path.write_text(json.dumps(results))
    return path


# Wilson intervals of 8, 7 and 3 of 10, from scipy.stats.binomtest
LITERAL = ["80.0 %", "49.0–94.3", "70.0 %", "39.7–89.2", "30.0 %", "10.8–60.3",
           "last epoch: 60.0 %", "42.0 %", "50.0 %"]  # fmt: skip


def test_every_number_of_the_literal_experiment_is_on_both_pages(tmp_path):
    out = tmp_path / "out"
    words = Reader(write_report(literal(tmp_path), out).read_text()).words
    markdown = (out / "report.md").read_text()
    for number in LITERAL:
        assert number in words, number
        assert number in markdown, number
    assert "at epoch 4 of 9" in words
    assert "at epoch 4 of 9" in markdown
    assert "SA3D 80.0 %, random masks 70.0 %, from scratch 30.0 % of 10 test clouds" in words
    assert "10.0 points above random masks: within noise" in words
    tree = json.loads((out / "metrics.json").read_text())
    assert tree["classify"]["method"] == {
        "acc": 0.8, "low": 0.49016, "high": 0.94332, "minus_baseline": 0.1, "minus_scratch": 0.5
    }  # fmt: skip
    assert tree["nodes"] == {"finished": 3, "unfinished": 2}
    assert "svm" not in tree


def test_failed_and_skipped_steps_are_shown_as_such(tmp_path):
    out = tmp_path / "out"
    words = Reader(write_report(literal(tmp_path), out).read_text()).words
    assert "failed exit status 2: the disk is full" in words
    assert "failed: exit status 2: the disk is full" in (out / "report.md").read_text()
    assert "skipped" in words
    assert "No picture" in words


def test_html_and_markdown_hold_the_same_numbers(whole):
    words = Reader((whole / "report.html").read_text()).words
    markdown = (whole / "report.md").read_text()
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    numbers = re.findall(r"\d+\.\d %", "\n".join(table))
    assert len(numbers) >= 15
    assert [n for n in numbers if n not in words] == []
    for value in re.findall(r"<span class=\"big\">([^<]+)", (whole / "report.html").read_text()):
        assert f"**{value.replace(chr(160), ' ')}**" in markdown


def test_the_page_loads_nothing(whole):
    page = (whole / "report.html").read_text()
    reader = Reader(page)
    assert reader.loads
    assert [a for a in reader.loads if not a.startswith(("data:", "#"))] == []
    assert not re.search(r"@import|@font-face|url\((?!#)|fetch\(|XMLHttpRequest|import\(", page)
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "https://" not in page
    assert len(page) < 3_000_000


def test_what_saw_the_validation_clouds_is_said(whole):
    words = Reader((whole / "report.html").read_text()).words
    assert "pre-training reads no labels but sees these clouds too" in words
    assert "fine-tuning, which does not train on them" in words


def test_images_are_not_blank(whole):
    page = (whole / "report.html").read_text()
    inside = re.findall(r'"data:image/webp;base64,([^"]+)"', page)
    assert len(inside) == CLOUDS * 3 * 2
    files = [io.BytesIO(base64.b64decode(text)) for text in inside]
    files += [io.BytesIO(path.read_bytes()) for path in (whole / "figures").glob("*.png")]
    assert len(files) == len(inside) + 11
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGBA"), dtype=float)
        assert pixels.std(axis=(0, 1)).max() > 5


def test_charts_follow_the_theme(whole):
    page = (whole / "report.html").read_text()
    assert "prefers-color-scheme: dark" in page
    charts = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(charts) == 10
    for chart in charts:
        assert "var(--method)" in chart or "var(--baseline)" in chart
        assert "#f0a0" not in chart
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_works_without_pictures_predictions_and_journals(tmp_path):
    results = write(tmp_path / "in", clouds=0, predictions=False)
    for journal in (tmp_path / "in").rglob("journal.jsonl"):
        journal.unlink()
    words = Reader(write_report(results, tmp_path / "out").read_text()).words
    assert "pretrain-method left no explain.npz" in words
    assert "No journal of any run could be read" in words
    assert "unpaired (Newcombe)" in words


def test_nothing_at_all_finished(tmp_path):
    nodes = {name: {"status": "failed"} for name in ("pretrain-method", "svm-method")}
    words = Reader(write_report(literal(tmp_path, nodes=nodes), tmp_path / "out").read_text()).words
    assert "No run finished: there is no result to report." in words
    assert json.loads((tmp_path / "out/metrics.json").read_text())["nodes"]["unfinished"] == 2


def test_damaged_run_folders_are_said_not_fatal(tmp_path):
    results = write(tmp_path / "in", clouds=1)
    folders = {path.name.rsplit("-", 1)[0]: path for path in (tmp_path / "in/work").iterdir()}
    (folders["pretrain-method"] / "explain.npz").write_bytes(b"PK\x03\x04 torn")
    (folders["classify-method"] / "result.json").write_text("{")
    (folders["svm-method"] / "predictions.npz").write_bytes(b"")
    with (folders["pretrain-baseline"] / "journal.jsonl").open("a") as journal:
        journal.write('{"kind": "metr')
    words = Reader(write_report(results, tmp_path / "out").read_text()).words
    assert "Missing from this page" in words
    assert "explain.npz" in words
    assert "classify-method: result.json of the run cannot be read" in words
    assert "svm-method: predictions" in words


def test_names_are_escaped(tmp_path, monkeypatch):
    evil, bold = '<script>alert("x")</script>|', "</script><b>"
    monkeypatch.setattr(invented, "CLASSES", [bold, "$x^2$ & <i>", *invented.CLASSES[2:]])
    monkeypatch.setattr(invented, "shape", lambda name, rng, n: rng.normal(size=(n, 3)) / 4)
    results = write(tmp_path / "in", name=evil, failed=["svm-scratch"], clouds=1)
    tree = json.loads(results.read_text())
    tree["command"] = evil
    tree["nodes"]["svm-scratch"]["error"] = evil
    tree["nodes"]["svm-method"]["mlflow_url"] = "javascript:alert(1)"
    tree["experiment"]["data"]["name"] = evil
    results.write_text(json.dumps(tree))
    page = write_report(results, tmp_path / "out").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert bold not in page
    assert "$x^2$ &amp; &lt;i&gt;" in page  # in a chart: text, neither markup nor a formula
    assert page.count("<script") == page.count("</script>") == 2
    assert not any(link.startswith("javascript") for link in Reader(page).links)
    markdown = (tmp_path / "out/report.md").read_text()
    assert "&lt;script>" in markdown
    cells = next(line for line in markdown.splitlines() if "alert" in line and "SVM" in line)
    assert len(re.findall(r"(?<!\\)\|", cells)) == 5  # four cells, whatever the names hold


def test_families_widen_the_interval(tmp_path):
    def method() -> tuple[Cell, str]:
        row = task_rows(read_experiment(results))[1]
        return row.cells[0], row.comparisons[0].difference.how

    results = write(tmp_path / "in", clouds=0)
    plain, how = method()
    assert how == "paired bootstrap over 288 clouds"
    for path in (tmp_path / "in").rglob("predictions.npz"):
        stored = dict(np.load(path))
        order = np.argsort(stored["labels"] != stored["predicted"], kind="stable")
        group = np.empty(len(order), int)
        group[order] = np.arange(len(order)) // 12  # right with right, wrong with wrong
        np.savez(path, **stored, group=group)
    grouped, how = method()
    assert how == "paired bootstrap over 24 families"
    assert grouped.accuracy == plain.accuracy
    width = plain.interval.high - plain.interval.low
    assert grouped.interval.high - grouped.interval.low > 1.5 * width


def test_a_missing_or_foreign_file_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match=r"no .*nowhere"):
        write_report(tmp_path / "nowhere.json", tmp_path / "out")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="nodes"):
        write_report(tmp_path / "other.json", tmp_path / "out")
    (tmp_path / "torn.json").write_text('{"nodes": {')
    with pytest.raises(DataError, match="cannot read"):
        write_report(tmp_path / "torn.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_report(literal(tmp_path), tmp_path / "file" / "out")


def test_nothing_temporary_is_left(whole):
    names = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert {"report.html", "report.md", "metrics.json", "figures/method.png"} <= names
    assert not [name for name in names if name.endswith(".tmp")]


def test_the_correlation_with_height_is_spearmans():
    up = np.linspace(-1, 1, 9)
    centers = np.zeros((2, 9, 3), np.float32)
    centers[:, :, 1] = up
    shared = {
        "points": np.zeros((2, 9, 3), np.float32),
        "patch_index": np.zeros((2, 9, 1), np.int64),
        "mask": np.zeros((2, 9), bool),
        "hard": np.zeros((2, 9), bool),
    }
    fields = {f.name for f in dataclasses.fields(Explained)}
    rest = dict.fromkeys(fields - set(shared) - {"centers", "gc"})
    scores = np.stack([-(up**3), up**2]).astype(np.float32)  # monotone down; even: no order
    data = Explained(centers=centers, gc=scores, **shared, **rest)
    assert height_correlation(data) == pytest.approx((-1.0 + 0.0) / 2, abs=1e-6)
    assert height_correlation(dataclasses.replace(data, gc=None)) is None
