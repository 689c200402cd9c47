import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import invented
import numpy as np
import pytest
from invented import CLASSIFY, EVALUATIONS, config, write
from page import Page
from PIL import Image

import sa3d.report
from sa3d import registry
from sa3d.errors import DataError, UserError
from sa3d.metrics import names as keys
from sa3d.report import write_report
from sa3d.report.pictures import height_correlation
from sa3d.runs.config import runs_of
from sa3d.viz.explain import Explained

CLOUDS = 2


@pytest.fixture(autouse=True)
def _tasks():
    with invented.registered():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Eight evaluations, two pre-trainings of each method, three runs that failed."""
    base = tmp_path_factory.mktemp("whole")
    with invented.registered():
        settings = config(evaluations=EVALUATIONS, seeds=(0, 1), epochs=12)
        failed = ["svm-shapes-noisy-scratch-s0", "svm-shapes-sa3df-s3"]
        results = write(
            base / "in", settings, clouds=CLOUDS, failed=failed,
            skipped=["classify-shapes-random-masks-s0"],
        )  # fmt: skip
        assert write_report(results, base / "out") == base / "out" / "report.html"
    return base / "out"


# right of ten test clouds, by fine-tuning
RIGHT = {"sa3df": 8, "random-masks": 7, "scratch": 3}


def literal(base: Path, **changes) -> Path:
    """Ten test clouds of which only the numbers are known; the SVMs did not finish."""
    settings = config(name="tiny", evaluations=[{"task": "svm"}, {"task": "classify", "settings":
                                                 CLASSIFY}])  # fmt: skip
    nodes = {}
    for run in runs_of(settings):
        name, right = run.spec.name, RIGHT[run.spec.variant] / 10
        node = {"kind": "evaluate", "spec": run.spec.as_json(), "status": "finished"}
        if run.spec.task == "classify":
            folder = base / name
            folder.mkdir(parents=True)
            metrics = {keys.TEST_ACC: right, keys.TEST_LAST: right - 0.1}
            matrix = [[round(right * 10) - 1, 10 - round(right * 10)], [0, 1]]
            (folder / "result.json").write_text(
                json.dumps(
                    {
                        "protocol": {
                            "selected_epoch": 4,
                            "epochs": 9,
                            "test_reads": 1,
                            "validation": "12.3 % of the training split",
                            "val_share": 0.123,
                        },
                        "metrics": metrics,
                        "details": {
                            "confusion": {"matrix": matrix, "class_names": ["pin", "socket"]}
                        },
                        "data": {
                            "name": "shapes",
                            "floor": 0.42,
                            "test": 10,
                            "test_families": 10,
                            "num_classes": 2,
                        },
                    }
                )
            )
            node |= {"run_dir": str(folder), "metrics": metrics, "seconds": 61.0,
                     "mlflow_run_id": "a1b2c3d4e5",
                     "mlflow_url": "http://127.0.0.1:5000/#/r/1"}  # fmt: skip
        elif run.spec.variant == "sa3df":
            node |= {"status": "failed", "error": "exit status 2: the disk is full"}
        else:
            node["status"] = "skipped"
        if run.spec.task != "pretrain":
            nodes[name] = node
    path = base / "results.json"
    path.write_text(json.dumps({"format": 2, "experiment": settings.model_dump(mode="json"),
                                "nodes": nodes, "command": "make tiny", "wall_seconds": 200}
                               | changes))  # fmt: skip
    return path


# Wilson intervals of 8, 7 and 3 of 10, from scipy.stats.binomtest
LITERAL = ["80.0 %", "49.0 to 94.3 %", "70.0 %", "39.7 to 89.2 %", "30.0 %", "10.8 to 60.3 %",
           "last epoch: 60.0 %", "epoch 4 of 9",
           "For scale: chance, 1 of 2: 50.0 %; 5-NN on simple descriptors: 42.0 %. Below the "
           "highest of these: scratch (random weights)."]  # fmt: skip


def test_a_registered_model_is_named_with_its_version(tmp_path):
    path = literal(tmp_path)
    results = json.loads(path.read_text())
    version = {"name": "sa3d-tiny-sa3df", "version": "4", "uri": "models:/sa3d-tiny-sa3df/4",
               "model_id": "m-1"}  # fmt: skip
    results["nodes"]["register-sa3df-s0"] = {"kind": "register", "status": "finished",
                                             "model_version": version}  # fmt: skip
    path.write_text(json.dumps(results))
    write_report(path, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "finished: sa3d-tiny-sa3df, version 4" in page
    assert "model_id" not in page


def test_every_number_of_the_literal_experiment_is_on_both_pages(tmp_path):
    out = tmp_path / "out"
    words = Page(write_report(literal(tmp_path), out)).words
    markdown = (out / "report.md").read_text()
    for number in LITERAL:
        assert number in words, number
        assert number in markdown, number
    for text in (words, markdown):
        assert "10.0 points better than MAE (random-masks), within noise" in text
        assert "50.0 points better than training from scratch, more than noise" in text
        assert "unpaired interval (Newcombe)" in text
    assert "12.3 % of the training split" in words
    assert "10 %" not in words  # the share that was asked for, not the one that came out
    tree = json.loads((out / "metrics.json").read_text())
    # Newcombe's limits: 0.1 - hypot(0.8 - 0.49016, 0.89221 - 0.7) and so on
    assert tree == {
        "classify-shapes": {
            "sa3df": {
                "mean": 0.8, "low": 0.49016, "high": 0.94332, "runs": 1,
                "minus": {"random-masks": {"value": 0.1, "low": -0.26461, "high": 0.43539},
                          "scratch": {"value": 0.5, "low": 0.066476, "high": 0.73976}},
            },
            "random-masks": {"mean": 0.7, "low": 0.39678, "high": 0.89221, "runs": 1},
            "scratch": {"mean": 0.3, "low": 0.10779, "high": 0.60322, "runs": 1},
        },
        "nodes": {"finished": 3, "unfinished": 3},
    }  # fmt: skip


def test_the_verdict_names_what_is_clear_and_on_which_evaluation(tmp_path):
    words = Page(write_report(literal(tmp_path), tmp_path / "out")).words
    assert words.startswith(
        "tiny: SA3DF against MAE (random-masks) and scratch (random weights), point-mae "
    )
    assert (
        "SA3DF is clearly better than scratch on classify-shapes. Against random-masks on "
        "classify-shapes nothing is beyond noise." in words
    )
    assert "3 of 6 runs did not finish" in words


def test_failed_and_skipped_runs_are_shown_as_such(tmp_path):
    out = tmp_path / "out"
    words = Page(write_report(literal(tmp_path), out)).words
    assert "seed 0 failed: exit status 2: the disk is full" in words
    assert "seed 0 skipped: no reason recorded" in words
    assert "seed 0 failed: exit status 2: the disk is full" in (out / "report.md").read_text()
    assert "No picture" in words


def test_html_and_markdown_hold_the_same_numbers(whole):
    words = Page(whole / "report.html").words
    markdown = (whole / "report.md").read_text()
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    numbers = re.findall(r"\d+\.\d(?: ± \d+\.\d)? %", "\n".join(table))
    assert len(numbers) >= 60
    assert [n for n in numbers if n not in words] == []
    for value in re.findall(r"<span class=\"big\">([^<]+)", (whole / "report.html").read_text()):
        assert f"**{value.replace(chr(160), ' ')}**" in markdown


def test_every_evaluation_has_its_section_and_the_contents_lead_to_it(whole):
    page = Page(whole / "report.html")
    assert len(page.ids) == len(set(page.ids))
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert set(anchors) <= set(page.ids)
    sections = [name for name in page.ids if name.startswith("section-")]
    assert len(sections) == 8
    assert [a for a in dict.fromkeys(anchors) if a.startswith("section-")] == sections
    markdown = (whole / "report.md").read_text()
    headings = re.findall(r"^## (.*)$", markdown, flags=re.M)
    assert len(headings) == 13
    targets = set(re.findall(r"\]\(#([^)]+)\)", markdown))
    assert targets == {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def test_seeds_and_folds_are_counted_with_their_pretrainings(whole):
    words = Page(whole / "report.html").words
    for text in (
        "3 runs from 2 pre-trainings",  # one of four failed
        "4 runs from 2 pre-trainings",
        "4 runs from 4 draws of random weights",
        "4 runs (4 folds) from one pre-training",
        "8 runs (2 seeds, 4 folds) from 2 pre-trainings",
        "seed 3 failed: exit status 2",
        "SA3DF 10 (mean of 2 seeds)",  # patches, at the end of the curriculum
    ):
        assert text in words, text
    tree = json.loads((whole / "metrics.json").read_text())
    assert tree["svm-shapes"]["sa3df"]["runs"] == 3
    assert set(tree["svm-shapes"]["sa3df"]) == {"mean", "sd", "low", "high", "runs", "minus"}
    assert "scratch" not in tree["svm-shapes-noisy"]


def test_metrics_that_are_no_accuracies_are_shown_as_what_they_are(whole):
    page = (whole / "report.html").read_text()
    denoise = page[page.index('id="section-denoise') : page.index('id="section-episodes')]
    assert "Chamfer distance, lower is better" in denoise
    assert "negative is better" in denoise
    assert re.findall(r'class="big">([^<]+)', denoise)
    assert not re.search(r'class="big">[^<]*%', denoise)
    parts = page[page.index('id="section-parts') : page.index('id="section-denoise')]
    assert "instance mIoU" in parts
    for part in (denoise, parts):
        assert "chance" not in part  # a floor of accuracies
    assert "chance, 1 of 12: 8.3" in page[: page.index('id="section-parts')]
    tree = json.loads((whole / "metrics.json").read_text())
    assert tree["denoise-shapes"]["sa3df"]["minus"]["scratch"]["value"] < -1


def test_the_page_loads_nothing(whole):
    page = Page(whole / "report.html")
    assert page.loads
    assert [a for a in page.loads if not a.startswith(("data:", "#"))] == []
    source = page.source
    assert not re.search(r"@import|@font-face|url\((?!#)|fetch\(|XMLHttpRequest|import\(", source)
    assert "http://" not in source.replace("http://127.0.0.1", "")
    assert "https://" not in source
    assert len(source) < 3_000_000


def test_how_the_numbers_came_about_is_said(whole):
    words = Page(whole / "report.html").words
    assert "Pre-training reads no labels but sees these clouds too" in words
    assert "read more than once in classify-kicad (21 times a run)" in words
    assert "half-samples divide the families in two" in words
    assert "bootstrap" not in words
    assert "There are 14 comparisons at 95 %" in words
    assert "differ in the seed of the evaluation alone" in words


def test_images_are_not_blank(whole):
    page = (whole / "report.html").read_text()
    inside = re.findall(r'"data:image/webp;base64,([^"]+)"', page)
    assert len(inside) == CLOUDS * 3 * 2
    files = [io.BytesIO(base64.b64decode(text)) for text in inside]
    files += [io.BytesIO(path.read_bytes()) for path in (whole / "figures").glob("*.png")]
    # 8 of means, 6 of fine-tuning, 6 of pre-training, 2 of the clouds
    assert len(files) == len(inside) + 22
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGBA"), dtype=float)
        assert pixels.std(axis=(0, 1)).max() > 5


def test_charts_follow_the_theme(whole):
    page = (whole / "report.html").read_text()
    assert "prefers-color-scheme: dark" in page
    charts = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(charts) == 28  # 8 of them a second time, for phones
    for chart in charts:
        assert "var(--variant0)" in chart or "var(--link)" in chart
        assert "#f0a0" not in chart


def test_the_same_results_give_the_same_files(tmp_path):
    evaluations = [{"task": "classify", "settings": CLASSIFY}]
    settings = config(evaluations=evaluations, variants=("published", "scratch"))
    results = write(tmp_path / "in", settings)
    write_report(results, tmp_path / "one")
    write_report(results, tmp_path / "two")
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 7  # four figures
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_nothing_outside_a_tasks_own_files_asks_for_its_name():
    for path in Path(sa3d.report.__file__).parent.rglob("*.*"):
        if path.suffix in (".py", ".j2"):
            words = set(re.findall(r"[\"'](\w+)[\"']", path.read_text()))
            assert not words & set(registry.downstream()), path


def test_a_missing_or_foreign_file_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match=r"no .*nowhere"):
        write_report(tmp_path / "nowhere.json", tmp_path / "out")
    for text, said in (
        ('{"a": 1}', "nodes"),
        ('{"nodes": {', "cannot read"),
        ('{"nodes": {}}', r"format None, expected 2; run the experiment again"),
        ('{"nodes": {}, "format": 2, "experiment": {"name": "x"}}', "does not fit this version"),
    ):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(DataError, match=said):
            write_report(tmp_path / "other.json", tmp_path / "out")
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
