"""What is missing or damaged is said on the page and takes nothing else down."""

import json
import re
import shutil

import invented
import numpy as np
import pytest
from invented import CLASSIFY, config, write
from page import Page

from sa3d.errors import DataError
from sa3d.report import write_report
from sa3d.report.results import Experiment
from sa3d.report.sections import variants_of
from sa3d.report.wording import numbered

TWO = [{"task": "svm"}, {"task": "classify", "settings": CLASSIFY}]


@pytest.fixture(autouse=True)
def _tasks():
    with invented.registered():
        yield


def small(base, evaluations=TWO, variants=("sa3df", "random-masks", "scratch"), **options):
    """A quick experiment; its ``results.json``."""
    settings = config(evaluations=evaluations, variants=variants, epochs=2, **{
        key: options.pop(key) for key in ("name",) if key in options})  # fmt: skip
    return write(base / "in", settings, steps=3, **{"clouds": 0} | options)


def folder(base, name):
    (found,) = (base / "in" / "work").glob(f"{name}-abcdef*")
    return found


def report(base, results):
    return Page(write_report(results, base / "out"))


def test_without_pictures_outcomes_and_journals(tmp_path):
    results = small(tmp_path, clouds=0, outcomes=False)
    for journal in (tmp_path / "in").rglob("journal.jsonl"):
        journal.unlink()
    words = report(tmp_path, results).words
    assert "pretrain-shapes-sa3df-s0: it left no explain.npz" in words
    assert "No journal of a pre-training could be read" in words
    assert "unpaired interval (Newcombe)" in words


def test_damaged_run_folders_are_said_not_fatal(tmp_path):
    results = small(tmp_path, clouds=1)
    (folder(tmp_path, "pretrain-shapes-sa3df-s0") / "explain.npz").write_bytes(b"PK\x03\x04 torn")
    (folder(tmp_path, "classify-shapes-sa3df-s0") / "result.json").write_text("{")
    (folder(tmp_path, "svm-shapes-sa3df-s0") / "outcomes.npz").write_bytes(b"")
    journal = folder(tmp_path, "pretrain-shapes-random-masks-s0") / "journal.jsonl"
    journal.write_text("no JSON\n" + journal.read_text())
    shutil.rmtree(folder(tmp_path, "classify-shapes-scratch-s0"))
    page = report(tmp_path, results)
    assert "Missing from this page" in page.words
    for text in (
        "pretrain-shapes-sa3df-s0: picture",
        "classify-shapes-sa3df-s0: result.json cannot be read",
        "svm-shapes-sa3df-s0: outcomes of single test clouds cannot be read",
        "pretrain-shapes-random-masks-s0: journal cannot be read",
        "classify-shapes-scratch-s0: its run folder",
        "only the numbers in results.json are left",
    ):
        assert text in page.words, text
        assert text.partition(":")[0] in (tmp_path / "out" / "report.md").read_text()
    assert str(tmp_path) not in page.source
    tree = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(tree["classify-shapes"]) == {"sa3df", "random-masks", "scratch"}


def test_outcomes_that_contradict_the_metric_are_not_used(tmp_path):
    results = small(tmp_path, evaluations=TWO[:1])
    path = folder(tmp_path, "svm-shapes-sa3df-s0") / "outcomes.npz"
    stored = dict(np.load(path))
    np.savez(path, **stored | {"score": ~stored["score"]})
    other = folder(tmp_path, "svm-shapes-scratch-s0") / "outcomes.npz"
    stored = dict(np.load(other))
    np.savez(other, **stored | {"score": stored["score"] * 2.0})
    words = report(tmp_path, results).words
    assert "svm-shapes-sa3df-s0: the mean over single test clouds is" in words
    assert "svm-shapes-scratch-s0: scores of single test clouds from 0 to 2" in words
    assert "unpaired interval" in words


def test_without_outcomes_clouds_of_families_get_no_interval(tmp_path):
    evaluations = [{"task": "svm", "data": "kicad"}]
    words = report(tmp_path, small(tmp_path, evaluations, outcomes=False)).words
    assert "are missing, and the 288 test clouds come in 24 families" in words
    assert "(95 % interval" not in words
    assert "Newcombe" not in words


def test_a_number_that_is_missing_or_impossible_is_not_shown(tmp_path):
    results = small(tmp_path, evaluations=TWO[:1], outcomes=False)
    tree = json.loads(results.read_text())
    for variant, value in (("sa3df", {"test/acc": 1.5}), ("random-masks", {})):
        tree["nodes"][f"svm-shapes-{variant}-s0"]["metrics"] = value
        path = folder(tmp_path, f"svm-shapes-{variant}-s0") / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": value}))
    results.write_text(json.dumps(tree))
    words = report(tmp_path, results).words
    assert "svm-shapes-sa3df-s0: finished, but test/acc is 1.5" in words
    assert "svm-shapes-random-masks-s0: finished, but test/acc is missing" in words
    assert "Too few runs finished to compare anything with the reference." in words


def test_a_figure_that_fails_is_named_and_the_rest_stays(tmp_path):
    results = small(tmp_path)
    path = folder(tmp_path, "classify-shapes-random-masks-s0") / "result.json"
    tree = json.loads(path.read_text())
    tree["details"]["confusion"]["matrix"] = "none"
    path.write_text(json.dumps(tree))
    page = report(tmp_path, results)
    assert "classify-shapes: sa3d.report.classification:confusion_chart" in page.words
    assert "Validation accuracy" in page.words


@pytest.mark.parametrize(
    ("error", "traced"),
    [
        (KeyError("forgotten"), True),
        (AssertionError("never"), True),
        (ValueError("damaged"), False),
        (FileNotFoundError("gone"), False),
        (DataError("unfit"), False),
    ],
)
def test_a_mistake_of_the_program_leaves_its_traceback(error, traced, capsys):
    """On the page both are a line; for damaged input a line is enough."""
    experiment = Experiment(config(), {}, {})

    def faulty():
        raise error

    assert experiment.attempt("figure", faulty) is None
    assert experiment.problems == [f"figure: {error}"]
    said = capsys.readouterr().err
    assert ("Traceback" in said and "in faulty" in said) is traced
    assert bool(said) is traced


def test_tasks_without_their_data_stand_on_the_page_with_the_reason(tmp_path):
    evaluations = [{"task": "svm"}, {"task": "svm", "data": "kicad"}]
    lost = [f"svm-kicad-{variant}-s0" for variant in ("sa3df", "random-masks", "scratch")]
    results = small(tmp_path, evaluations, skipped=lost)
    tree = json.loads(results.read_text())
    why = "data set kicad is absent: no raw data in data/raw/kicad"
    for name in lost:
        tree["nodes"][name]["error"] = why
    tree["data"]["kicad"] = {"absent": why}
    results.write_text(json.dumps(tree))
    page = report(tmp_path, results)
    assert f"runs on kicad were skipped: {why}" in page.words
    assert "It is absent, and no run reads it." in page.words
    assert f"skipped: {why}" in page.words  # where its numbers would be
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"runs on kicad were skipped: {why}" in text
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "svm-shapes" in metrics
    assert "svm-kicad" not in metrics


def test_nothing_at_all_finished(tmp_path):
    results = small(tmp_path)
    tree = json.loads(results.read_text())
    for node in tree["nodes"].values():
        node |= {"status": "failed", "run_dir": None, "metrics": {}}
    results.write_text(json.dumps(tree))
    words = report(tmp_path, results).words
    assert "No evaluation finished: there is no result to report." in words
    finished = json.loads((tmp_path / "out/metrics.json").read_text())["nodes"]
    assert finished == {"finished": 0, "unfinished": len(tree["nodes"])}


def test_runs_that_are_not_planned_or_unknown_are_said(tmp_path):
    results = small(tmp_path, evaluations=TWO[:1])
    tree = json.loads(results.read_text())
    spec = tree["nodes"]["svm-shapes-sa3df-s0"]["spec"] | {"data": "elsewhere"}
    tree["nodes"]["foreign"] = tree["nodes"]["svm-shapes-sa3df-s0"] | {"spec": spec}
    tree["nodes"]["nameless"] = {"kind": "evaluate", "status": "finished"}
    del tree["nodes"]["svm-shapes-scratch-s0"]
    results.write_text(json.dumps(tree))
    words = report(tmp_path, results).words
    assert "foreign: it belongs to no evaluation of the settings" in words
    assert "nameless: `spec` in results.json cannot be read" in words
    assert "absent: results.json has no run of it" in words


def test_without_evaluations_the_page_is_about_pretraining(tmp_path):
    page = report(tmp_path, small(tmp_path, evaluations=()))
    assert "Pre-training alone: 2 runs finished, nothing was evaluated." in page.words
    assert "This experiment evaluates nothing" in page.words
    assert "Learning rate" in page.words
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_without_pretraining_the_page_says_where_encoders_come_from(tmp_path):
    results = small(tmp_path, evaluations=TWO[:1], variants=("published", "scratch"))
    page = report(tmp_path, results)
    assert "Nothing is pre-trained in this experiment." in page.words
    assert "published (checkpoint): pre-trained elsewhere; it starts from runs/published." in (
        page.words
    )
    assert "/somewhere/else" not in page.source
    assert "scratch (random weights): not pre-trained" in page.words
    assert "No picture" not in page.words
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_the_picture_is_that_of_the_first_pretrained_variant_if_the_reference_is_none(tmp_path):
    variants = ("scratch", "sa3d", "random-masks")
    page = report(tmp_path, small(tmp_path, evaluations=(), variants=variants, clouds=1))
    assert "What SA3D looks at" in page.words
    assert "in one view each, from pretrain-shapes-sa3d-s0" in page.words


def test_variants_of_the_same_method_are_told_apart():
    variants = ("sa3df", "random-masks", "sa3df-deep", "blocks")
    assert [v.label for v in variants_of(config(variants=variants)).values()] == [
        "SA3DF (sa3df)", "MAE (random-masks)", "SA3DF (sa3df-deep)", "MAE (blocks)"
    ]  # fmt: skip
    one = config(variants=("random-masks", "sa3df", "scratch"))
    assert [v.label for v in variants_of(one).values()] == [
        "MAE (random-masks)", "SA3DF", "scratch (random weights)"
    ]  # fmt: skip


def test_the_real_validation_shares_are_printed(tmp_path):
    evaluations = [{"task": "classify", "settings": CLASSIFY, "seeds": [0, 1]}]
    variants = ("published", "scratch")
    words = report(tmp_path, small(tmp_path, evaluations, variants)).words
    assert "Validation: 9.8 % to 10.2 % of the training split, depending on the seed" in words


def test_a_reference_below_the_floor_is_said_at_the_top(tmp_path):
    variants = ("published", "scratch")
    words = report(tmp_path, small(tmp_path, TWO[:1], variants)).words  # 70 %; the floor: 71.2 %
    said = "On svm-shapes published (checkpoint) stays below what needs no learning at all: "
    assert f"{said}5-NN on simple descriptors." in words


def test_names_are_escaped(tmp_path, monkeypatch):
    evil, bold = '<script>alert("x")</script>|', "</script><b>"
    monkeypatch.setattr(invented, "CLASSES", [bold, "$x^2$ & <i>", *invented.CLASSES[2:]])
    monkeypatch.setattr(invented, "shape", lambda name, rng, n: rng.normal(size=(n, 3)) / 4)
    evaluations = [TWO[1], {"task": "svm", "data": "<b>|"}]
    results = small(tmp_path, evaluations=evaluations, name=evil, clouds=1)
    tree = json.loads(results.read_text())
    tree["command"] = evil
    first, second = "classify-shapes-scratch-s0", "classify-shapes-sa3df-s0"
    tree["nodes"][first] |= {"status": "failed", "error": evil}
    tree["nodes"][second]["mlflow_url"] = "javascript:alert(1)"
    results.write_text(json.dumps(tree))
    page = report(tmp_path, results)
    assert "<script>alert" not in page.source
    assert "&lt;script&gt;alert" in page.source
    assert bold not in page.source
    assert "<b>|" not in page.source
    assert "$x^2$ &amp; &lt;i&gt;" in page.source  # in a chart: text, neither markup nor a formula
    assert page.source.count("<script") == page.source.count("</script>") == 2
    assert not any(link.startswith("javascript") for link in page.links)
    assert {path.name for path in (tmp_path / "out/figures").iterdir()} >= {"svm-_b_-results.png"}
    markdown = (tmp_path / "out/report.md").read_text()
    assert "&lt;script>" in markdown
    cells = next(line for line in markdown.splitlines() if "alert" in line and "| scratch" in line)
    assert len(re.findall(r"(?<!\\)\|", cells)) == 7  # six cells, whatever the names hold


def test_runs_of_a_variant_that_failed_alike_stand_once(tmp_path):
    few = {"task": "fewshot", "settings": CLASSIFY | {"way": 3, "shot": 2, "folds": 4}}
    results = small(tmp_path, [few])
    tree = json.loads(results.read_text())
    for name, node in tree["nodes"].items():
        if name.startswith("fewshot-shapes-scratch"):
            cause = "another" if name.endswith("f3") else "no clouds"
            node |= {"status": "failed", "error": f"{cause} (exit status 2; log: runs/{name}/log)"}
    results.write_text(json.dumps(tree))
    page = report(tmp_path, results)
    assert "3 runs failed (seed 0, folds 0 to 2): no clouds (exit status 2)" in page.words
    assert "seed 0, fold 3 failed: another (exit status 2)" in page.words
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert markdown.count("no clouds (exit status 2)") == 1
    assert "log: runs/fewshot-shapes-scratch-s0-f1" in page.words  # of each run, in what ran


def test_numbers_of_seeds_and_folds_are_shortened():
    assert numbered("seed", [4]) == "seed 4"
    assert numbered("seed", [2, 0]) == "seeds 0 and 2"
    assert numbered("fold", [0, 1, 2, 3]) == "folds 0 to 3"
    assert numbered("fold", [0, 1, 3]) == "folds 0, 1 and 3"
