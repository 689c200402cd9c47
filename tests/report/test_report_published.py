"""Published numbers beside ours: which runs get them, what differs, and the verdict."""

from __future__ import annotations

from pathlib import Path

import invented
import numpy as np
import pytest
from invented_published import BG, FINE, PB, SVM, VOTES, config, write
from page import Page

from sa3d.config.loading import load_experiment
from sa3d.published.numbers import numbers
from sa3d.report import write_report
from sa3d.report.official import of_pretraining, trained_for
from sa3d.report.published import facts_of, nearest_goal, published
from sa3d.report.results import Experiment, RunRecord
from sa3d.report.sections import sections_of
from sa3d.runs.config import runs_of

CLOUDS = {"modelnet40": 2468, "scanobjectnn-pb-t50-rs": 2882, "scanobjectnn-obj-bg": 581}
ROOT = Path(__file__).parents[2]


def rows(settings, metrics, **options):
    """The table's rows by variant and quantity."""
    found = table(settings, metrics, **options)
    return {} if found is None else {(r.variant.name, r.quantity): r for r in found.rows}


def table(settings, metrics, clouds=None, status="finished", failed_folds=()):
    """The table where every evaluation came to ``metrics``."""
    runs = {}
    for run in runs_of(settings):
        kind = "pretrain" if run.spec.task == "pretrain" else "evaluate"
        data = {"test": clouds or CLOUDS.get(run.data.name)}
        state = "failed" if run.spec.fold in failed_folds else status
        runs[run.spec.name] = RunRecord(run.spec.name, kind, run.spec, state, metrics=metrics,
                                        result={"data": data})  # fmt: skip
    experiment = Experiment(settings, runs, {})
    return published(experiment, sections_of(experiment))


def only(settings, metrics, **options):
    return rows(settings, metrics, **options)["sa3df", "accuracy"]


def pb(**metrics):
    return {"test/acc": 0.5, "test/acc_val_selected": 0.5} | {
        key.replace("_", "/", 1): value for key, value in metrics.items()
    }


def test_ours_stands_beside_what_was_published():
    settings = config((PB,), seeds=(0, 1))
    row = only(settings, pb(test_acc_last=0.851, test_acc_val_selected=0.8473))
    assert [(each.name, each.text) for each in row.ours] == [
        ("last, 2 runs", "85.10 ± 0.00"), ("val-selected, 2 runs", "84.73 ± 0.00"),
    ]  # fmt: skip
    assert [(each.name, each.text, each.selected) for each in row.values] == [
        ("README of 2023", "85.35", True), ("README of 2025", "88.89", True),
    ]  # fmt: skip
    assert [(each.name, each.text) for each in row.logs] == [
        ("official log", "last 84.94; last 20 84.77 ± 0.11"),
        ("official log of 2024", "last 88.17; last 20 88.32 ± 0.11"),
    ]  # fmt: skip
    assert row.target == "official log, mean of the last 20 epochs"
    assert (row.difference, row.verdict, row.why) == ("+0.33", "within", "")
    assert row.band.startswith("83.32 to 86.23 (s.d.: last epochs 0.11, test clouds 0.67")


@pytest.mark.parametrize(
    ("last", "verdict", "difference"),
    [(0.8624, "above", "+1.47"), (0.8331, "below", "−1.46"), (0.8333, "within", "−1.44")],
)
def test_verdicts(last, verdict, difference):
    row = only(config((PB,)), pb(test_acc_last=last))
    assert (row.verdict, row.difference) == (verdict, difference)


def test_the_nearest_of_several_published_recipes_is_the_target():
    row = only(config((PB | {"settings": FINE | {"lr": 0.00015625}},)), pb(test_acc_last=0.88))
    assert row.target == "official log of 2024, mean of the last 20 epochs"
    assert (row.verdict, row.why) == ("within", "")


@pytest.mark.parametrize(
    ("changes", "evaluation", "said"),
    [
        ({"data": "kicad"}, {}, "pre-training data kicad instead of shapenet55"),
        ({"method": {"epochs": 12}}, {}, "pre-training epochs 12 instead of 400; teacher's "
         "pre-training epochs 12 instead of 301"),
        ({"random_masks": {"epochs": 30}}, {}, "teacher's pre-training epochs 30 instead of 301"),
        ({"sa3df": {"batch_size": 64}}, {}, "pre-training batch 64 instead of 256"),
        ({"sa3df": {"mask_ratio": 0.7}}, {}, "pre-training masked 45 instead of 39"),
        ({"model": {"backbone": "point-mae", "dim": 96}}, {},
         "pre-training model dim 96 instead of 384"),
        ({"model": {"backbone": "point-mae", "groups": 32}}, {},
         "pre-training masked 20 instead of 39; teacher's pre-training masked 19 instead of 38; "
         "pre-training model groups 32 instead of 64"),
        ({}, {"model": {}}, "model groups 64 instead of 128"),
        ({}, {"points": 1024}, "points 1024 instead of 2048"),
        ({}, {"settings": FINE | {"epochs": 100}}, "epochs 100 instead of 500"),
        ({}, {"settings": FINE | {"layer_decay": 1.0}}, "layer_decay 1 instead of 0.75"),
    ],
)  # fmt: skip
def test_another_recipe_gets_no_verdict_and_says_what_differs(changes, evaluation, said):
    settings = config((PB | evaluation,), **changes)
    row = only(settings, pb(test_acc_last=0.85))
    assert row.verdict == "none"
    assert row.why == f"Not the published recipe: {said}."
    assert row.difference == "+0.23"


def test_two_batches_summed_are_one_of_twice_the_size():
    settings = config((PB,), sa3df={"batch_size": 128, "accumulate": 2})
    assert only(settings, pb(test_acc_last=0.85)).why == ""


def test_many_differences_are_counted():
    model = {"backbone": "point-mae", "dim": 96, "depth": 4, "heads": 4, "decoder_depth": 2}
    settings = config((PB,), model=model, data="kicad", method={"epochs": 15})
    why = only(settings, pb(test_acc_last=0.85)).why
    assert why.count(" instead of ") == 6
    assert "further difference" in why


def test_another_augmentation_is_another_recipe():
    turned = BG | {"settings": BG["settings"] | {"augment": "rotate_y"}}
    row = only(config((turned,)), pb(test_acc_last=0.88))
    assert row.why == ("Not the published recipe: augment rotate_y instead of scale_translate.")


def test_other_test_clouds_give_no_verdict():
    row = only(config((PB,)), pb(test_acc_last=0.85), clouds=288)
    assert row.why == "Not the published recipe: 288 test clouds instead of 2882."


def test_without_the_number_that_is_compared_there_is_no_verdict():
    row = only(config((PB,)), pb())
    assert (row.verdict, row.difference, row.why) == ("none", "", "No run has test/acc_last.")


def test_runs_that_failed_and_impossible_numbers_give_no_row():
    assert rows(config((PB,)), pb(test_acc_last=0.85), status="failed") == {}
    assert rows(config((SVM,)), {"test/acc_official_c": 91.7}) == {}


def test_what_is_compared_depends_on_the_task():
    found = rows(config((SVM,)), {"test/acc": 0.95, "test/acc_official_c": 0.92})
    svm = found["sa3df", "accuracy of a linear SVM"]
    assert (svm.difference, svm.verdict) == ("+0.15", "within")  # to 91.848
    votes = {"test/acc_last": 0.93, "test/vote_mean": 0.94, "test/vote_sd": 0.0013,
             "test/vote_max": 0.95}  # fmt: skip
    found = {key[1]: row for key, row in rows(config((VOTES,)), votes).items()
             if key[0] == "sa3df"}  # fmt: skip
    assert [(q, row.difference, row.target) for q, row in found.items()] == [
        ("accuracy", "−0.55", "README of 2023"),
        ("accuracy by votes, mean", "+0.16", "official log of votes, mean of 299 votes"),
        ("accuracy by votes, best vote", "+0.84", "README of 2023"),
    ]
    assert [(told.name, told.text) for told in found["accuracy by votes, mean"].ours] == [
        ("mean of votes", "94.00"), ("standard deviation over votes", "0.13"),
    ]  # fmt: skip


def test_few_shot_results_are_found_by_ways_and_shots():
    evaluations = [
        {"task": "fewshot", "data": "modelnet-fewshot", "points": 1024, "label": f"{way}w{shot}s",
         "settings": {"way": way, "shot": shot, "epochs": 151, "lr": 0.001,
                      "batch_size": 32}}
        for way, shot in ((5, 10), (10, 20))
    ]  # fmt: skip
    settings = config(evaluations, variants=("sa3df", "random-masks"))
    found = {
        (row.variant.name, row.evaluation): row
        for row in table(settings, {"test/acc": 0.945}, clouds=100).rows
    }
    row = found["sa3df", "fewshot-5w10s-modelnet-fewshot"]
    assert (row.ours[0].name, row.values[0].text) == ("last, 10 runs", "97.00")
    assert (row.difference, row.verdict) == ("−2.50", "within")  # selection may have gained 1.69
    row = found["sa3df", "fewshot-10w20s-modelnet-fewshot"]
    assert (row.difference, row.verdict) == ("−0.70", "within")
    row = found["random-masks", "fewshot-10w20s-modelnet-fewshot"]
    assert row.values[0].text == "95.00 ± 3"
    assert row.why == "Not the published recipe: lr 0.001 instead of 0.0005."


def test_few_shot_without_all_folds_has_no_verdict():
    evaluation = {"task": "fewshot", "data": "modelnet-fewshot", "points": 1024, "label": "5w10s",
                  "settings": {"way": 5, "shot": 10, "epochs": 151, "lr": 0.001,
                               "batch_size": 32}}  # fmt: skip
    settings = config([evaluation], variants=("sa3df", "random-masks"))
    (row, _) = table(settings, {"test/acc": 0.945}, clouds=100, failed_folds=(3, 7)).rows
    assert (row.ours[0].name, row.verdict) == ("last, 8 runs", "none")
    assert row.why == (
        "2 of 10 folds have no number: the mean over the others is not over the published episodes."
    )


def test_both_miou_of_parts():
    parts = {"task": "segment", "data": "shapenetpart", "points": 2048, "model": {"groups": 128},
             "settings": {"epochs": 300, "lr": 0.0002, "batch_size": 16}}  # fmt: skip
    metrics = {
        "test/miou_instance": 0.1,
        "test/miou_instance_last": 0.8665,
        "test/miou_category_last": 0.8433,
    }
    found = rows(config((parts,)), metrics, clouds=2874)
    one, two = found["sa3df", "mIoU over shapes"], found["sa3df", "mIoU over categories"]
    assert (one.difference, one.verdict) == ("+0.78", "above")
    assert (two.difference, two.verdict) == ("+0.08", "within")
    assert found["random-masks", "mIoU over shapes"].verdict == "above"
    assert found["random-masks", "mIoU over categories"].values[0].name == "re-measured"


# by experiment of params.yaml: the variant that it is there to reproduce
PRESETS = {"point-mae-sa3df": "sa3df", "point-mae": "random-masks", "point-m2ae-sa3df": "sa3df",
           "point-m2ae": "random-masks"}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_are_the_published_recipes(name):
    settings, variant = load_experiment(name, ROOT / "params.yaml"), PRESETS[name]
    experiment = Experiment(settings, {}, {})
    found = {}
    for evaluation in settings.evaluate:
        for result in numbers().of(facts_of(settings, evaluation, variant)):
            _, differing = nearest_goal(experiment, evaluation, variant, result)
            found[evaluation.name, result.quantity] = differing
    assert len(found) >= 8
    assert {key: each for key, each in found.items() if each} == {}


def test_every_published_result_has_a_preset():
    """But for Point-MAE on 8192 points."""
    met = set()
    for name in PRESETS:
        settings = load_experiment(name, ROOT / "params.yaml")
        for evaluation in settings.evaluate:
            for variant in evaluation.variants:
                found = numbers().of(facts_of(settings, evaluation, variant))
                met |= {(each.match.model_dump_json(), each.quantity) for each in found}
    rest = [each for each in numbers().results
            if (each.match.model_dump_json(), each.quantity) not in met]  # fmt: skip
    assert {(each.match.method, each.match.points) for each in rest} == {("mae", 8192)}


def test_published_weights_stand_beside_what_was_published_of_them():
    settings = config((SVM, PB), variants=("authors", "somebody", "scratch"))
    settings = settings.model_copy(update={"pretrain": None})  # nothing is pre-trained here
    found = rows(settings, {"test/acc_official_c": 0.9131, "test/acc_last": 0.8477})
    svm, fine = (found["authors", q] for q in ("accuracy of a linear SVM", "accuracy"))
    assert (svm.difference, svm.target, svm.verdict) == ("+0.31", "Point-M2AE paper", "within")
    # the weights are the published ones, their fine-tuning is not
    assert fine.why == (
        "Not the published recipe: epochs 500 instead of 301; lr 0.000125 instead of 0.0005; "
        "layer_decay 0.75 instead of 1."
    )
    assert "somebody" not in {name for name, _ in found}


def test_weights_of_another_pre_training_are_another_recipe():
    settings = config((SVM,), variants=("authors", "scratch"),
                      authors={"published": "point-m2ae"})  # fmt: skip
    row = rows(settings, {"test/acc_official_c": 0.9})["authors", "accuracy of a linear SVM"]
    assert row.why == "Not the published recipe: pre-training point-m2ae instead of point-mae."


def test_the_svm_of_published_weights_is_drawn_at_their_last_epoch():
    settings = config((SVM,), variants=("sa3df", "random-masks", "authors", "somebody"))
    places = {name: trained_for(settings, name) for name in settings.variants}
    assert places == {"sa3df": 400, "random-masks": 301, "authors": 301, "somebody": None}


def test_votes_that_were_not_asked_for_have_no_row():
    found = rows(config((VOTES,)), {"test/acc_last": 0.93})
    assert {quantity for _, quantity in found} == {"accuracy"}


def test_a_variant_that_nothing_was_published_of_has_no_row():
    assert {name for name, _ in rows(config((PB,)), pb(test_acc_last=0.85))} == {
        "sa3df", "random-masks"
    }  # fmt: skip


def test_an_experiment_on_other_data_has_no_table(tmp_path):
    evaluations = [{"task": "svm", "data": "kicad"}]
    settings = invented.config(evaluations=evaluations, epochs=2)
    write_report(invented.write(tmp_path, settings, steps=3, clouds=0), tmp_path / "out")
    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text()
        assert "Published numbers beside ours" not in text
        assert "official log" not in text
    assert not list((tmp_path / "out" / "figures").glob("*official*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    base = tmp_path_factory.mktemp("published")
    evaluations = (SVM, PB | {"settings": FINE | {"test_every_epoch": True}}, BG, VOTES)
    settings = config(evaluations)
    results = write(base / "in", settings, test_vote_mean=0.9361, test_vote_max=0.94)
    write_report(results, base / "out")
    return base / "out"


def test_the_page_has_the_table_and_the_markdown_the_same(whole):
    page = Page(whole / "report.html")
    markdown = (whole / "report.md").read_text()
    assert "published" in page.ids
    assert "#published" in page.links
    assert "[published numbers](#published-numbers-beside-ours)" in markdown
    for text in (
        "last 84.94; last 20 84.77 ± 0.11",
        "best 85.36 (epoch 317), chosen on test",
        "90.60 to 93.10 (s.d.: last epochs 0.14, test clouds 0.55, evaluation code 0.26)",
        "Not the published recipe: epochs 500 instead of 301; lr 0.000125 instead of 0.0005; "
        "layer_decay 0.75 instead of 1.",
        "GM3D (GeoMask3D), README.md of 2023-11-25",
        "within the band",
        "below the band",
    ):
        assert text in page.words, text
        assert text in markdown, text
    assert "85.35 †" in page.words
    assert "85.35†" in markdown


def test_ours_is_drawn_over_the_official_curves(whole):
    figures = {path.stem for path in (whole / "figures").glob("*official*")}
    assert figures == {
        "svm-modelnet40-official-svm",
        "classify-scanobjectnn-pb-t50-rs-official-accuracy",
        "classify-scanobjectnn-obj-bg-official-accuracy",
        "classify-modelnet40-official-vote-mean",
    }
    words = Page(whole / "report.html").words
    assert "Ours: test split, by epoch." in words
    assert "Ours is of the validation split, as the test split is not read each epoch" in words
    assert "Point-MAE+SA3DF PB-T50-RS (seed README, 2023)" in words
    assert "Not trained by the published recipe: MAE" not in words  # it has no log of its own
    source = (whole / "report.html").read_text()
    charts = source[source.index('id="pre-training"') :]
    assert charts.count("official log</text>") == 5


def test_official_curves_of_pretraining_are_of_the_same_method_and_data():
    settings = config((SVM,))
    (found,) = of_pretraining(settings, "train/gc_loss")
    assert (found.name, len(found.x)) == ("official log", 400)
    assert found.words == (
        "official log (GM3D, training log, repository AliBahri94/GM3D), 400 epochs"
    )
    assert np.isclose(found.y[0], 0.589575)
    assert of_pretraining(settings, "curriculum/hard_patches") == []
    assert of_pretraining(config((SVM,), data="kicad"), "train/gc_loss") == []


def test_a_run_that_did_not_finish_is_not_drawn_over_official_epochs(tmp_path):
    settings = config((SVM,), method={"epochs": 12, "lr": 0.001})
    results = invented.write(tmp_path, settings, steps=3, clouds=0,
                             failed=["pretrain-shapenet55-sa3df-s0"])  # fmt: skip
    words = Page(write_report(results, tmp_path / "out")).words
    assert "Not drawn: official log, as a run did not finish" in words


def test_every_figure_is_in_the_markdown(whole):
    markdown = (whole / "report.md").read_text()
    for path in (whole / "figures").glob("*.png"):
        assert f"](figures/{path.name})" in markdown, path.name
