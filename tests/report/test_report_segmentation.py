"""What the report shows of part segmentation, drawn from invented runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from invented import CLASSES, config, shape

from sa3d import registry
from sa3d.errors import DataError
from sa3d.metrics import names as keys
from sa3d.metrics.intervals import Estimate
from sa3d.report import segmentation
from sa3d.report.results import RunRecord
from sa3d.report.sections import Section, VariantRuns, variants_of
from sa3d.runs.config import runs_of
from sa3d.viz import segmented, style

PARTS = tuple(f"{name}/{part}" for name in CLASSES[:3] for part in ("top", "bottom"))
MEMBERS = ((0, 1), (2, 3), (4, 5))


def examples(wrong: int, seed: int = 0) -> segmented.Segmented:
    """Three clouds cut at half their height; ``wrong`` points of each have the other part."""
    rng = np.random.default_rng(seed)
    points = np.stack([shape(name, rng, 200) for name in CLASSES[:3]]).astype(np.float32)
    truth = (points[..., 1] < 0).astype(np.int64) + 2 * np.arange(3)[:, None]
    predicted = truth.copy()
    predicted[:, :wrong] ^= 1
    return segmented.Segmented(
        points, truth, predicted, np.arange(3), tuple(CLASSES[:3]), PARTS, MEMBERS
    )


def details(level: float) -> dict:
    rows = [
        {"name": name, "clouds": 10 + place, "miou": level + 0.01 * place}
        for place, name in enumerate(CLASSES[:3])
    ]
    confused = [[PARTS[0], PARTS[1], 40], [PARTS[3], PARTS[2], 7]]
    return {"categories": rows, "parts": {}, "confused": confused, "points": 1000}


@pytest.fixture
def section(tmp_path: Path) -> Section:
    """Two variants with two seeds each."""
    settings = {"epochs": 20, "lr": 0.001, "batch_size": 16}
    evaluation = {"task": "segment", "settings": settings, "seeds": [0, 1]}
    experiment = config(
        evaluations=[evaluation], variants=("random-masks", "scratch"), seeds=(0, 1)
    )
    rows = []
    for place, (name, variant) in enumerate(variants_of(experiment).items()):
        records = []
        for run in runs_of(experiment):
            if run.spec.task != "segment" or run.spec.variant != name:
                continue
            folder = tmp_path / run.spec.name
            folder.mkdir()
            segmented.save_segmented(folder / segmented.FILE, examples(wrong=20 * (place + 1)))
            level = 0.8 - 0.1 * place + 0.02 * run.spec.seed
            curve = [(step, level - 1 / step) for step in range(10, 210, 10)]
            records.append(
                RunRecord(
                    run.spec.name, "evaluate", run.spec, "finished", folder=folder,
                    metrics={keys.TEST_MIOU: level}, journal={keys.VAL_MIOU: curve},
                    result={"details": {"segmentation": details(level)},
                            "artifacts": {"examples": segmented.FILE}},
                )
            )  # fmt: skip
        estimate = Estimate(0.8 - 0.1 * place, 0.01, 2, None, "")
        rows.append(VariantRuns(variant, tuple(records), estimate))
    task = registry.task("segment")
    return Section("parts", experiment.evaluate[0], task, tuple(rows), ())


def test_categories_are_means_over_runs(section: Section) -> None:
    first, second = segmentation.categories(section)
    assert first.names == tuple(CLASSES[:3])
    assert first.clouds == (10, 11, 12)
    assert first.miou == pytest.approx([0.81, 0.82, 0.83])
    assert second.miou == pytest.approx([0.71, 0.72, 0.73])
    assert first.confused[0] == (PARTS[0], PARTS[1], 80)
    assert first.points == 2000


def test_the_table_has_every_category_of_every_variant(section: Section) -> None:
    with style.context():
        (drawn,) = segmentation.per_category_chart(section)
    assert "MAE (random-masks) most often takes chair/top for chair/bottom (4.0 %" in drawn.caption
    table = drawn.svg[drawn.svg.index("<details>") :]
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]
    assert cells[0][:2] == ["category", "clouds"]
    assert cells[1:] == [
        ["chair", "10", "81.0 %", "71.0 %"],
        ["table", "11", "82.0 %", "72.0 %"],
        ["lamp", "12", "83.0 %", "73.0 %"],
    ]
    assert drawn.png.startswith(b"\x89PNG")


def test_the_curve_is_that_of_validation(section: Section) -> None:
    with style.context():
        (drawn,) = segmentation.validation_curves(section)
    assert drawn.key == "parts-validation"
    assert "chooses the epoch" in drawn.caption


def test_the_picture_has_truth_and_predictions_for_both_themes(section: Section) -> None:
    with style.context():
        (drawn,) = segmentation.pictures(section)
    assert len(re.findall(r"<img", drawn.svg)) == 3 * (1 + 2)
    assert len(re.findall(r"<source media=", drawn.svg)) == 3 * (1 + 2)
    assert set(re.findall(r'(?:src|srcset)="([^:]+:[^,]+),', drawn.svg)) == {
        "data:image/webp;base64"
    }
    shares = re.findall(r"([\d.]+ %) of points wrong", drawn.svg)
    assert shares == ["10.0 %", "20.0 %"] * 3  # 20 and 40 of 200 points
    assert drawn.svg.count("</span>top</span>") == 3, "a part's name without that of its category"
    assert 'alt="chair: truth"' in drawn.svg


def test_names_from_data_are_text_in_the_page(section: Section) -> None:
    data = replace(examples(5), class_names=("<b>", "&", '"'))
    for run in section.runs:
        assert run.folder is not None
        segmented.save_segmented(run.folder / segmented.FILE, data)
    with style.context():
        (drawn,) = segmentation.pictures(section)
    assert "<b>" not in drawn.svg
    assert 'alt="&lt;b&gt;: truth"' in drawn.svg
    assert 'alt="&#34;: truth"' in drawn.svg


def test_without_results_there_is_nothing_to_draw(section: Section) -> None:
    bare = [
        replace(row, runs=tuple(replace(run, result={}, journal={}) for run in row.runs))
        for row in section.variants
    ]
    empty = replace(section, variants=tuple(bare))
    for draw in (
        segmentation.per_category_chart,
        segmentation.validation_curves,
        segmentation.pictures,
    ):
        assert draw(empty) == []


def test_other_clouds_than_the_first_variants_are_refused(section: Section) -> None:
    run = section.variants[1].finished[0]
    assert run.folder is not None
    segmented.save_segmented(run.folder / segmented.FILE, examples(5, seed=1))
    with style.context(), pytest.raises(DataError, match="shows other clouds than"):
        segmentation.pictures(section)


# --- the file ------------------------------------------------------------------------------


def test_the_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    data = examples(7)
    segmented.save_segmented(tmp_path / "parts.npz", data)
    found = segmented.load_segmented(tmp_path / "parts.npz")
    for name in ("points", "truth", "predicted", "labels"):
        assert np.array_equal(getattr(found, name), getattr(data, name)), name
    assert (found.class_names, found.part_names) == (data.class_names, data.part_names)
    assert found.class_parts == data.class_parts
    assert found.wrong(1).sum() == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": np.zeros((3, 199), int)},
        {"labels": np.array([0, 1, 3])},
        {"predicted": np.full((3, 200), 5)},
        {"points": np.full((3, 200, 3), np.nan, np.float32)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changes: dict) -> None:
    segmented.save_segmented(tmp_path / "parts.npz", replace(examples(7), **changes))
    with pytest.raises(DataError, match=r"parts\.npz do not fit together"):
        segmented.load_segmented(tmp_path / "parts.npz")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "parts.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"cannot read .*parts\.npz"):
        segmented.load_segmented(tmp_path / "parts.npz")


# --- colours -------------------------------------------------------------------------------


def test_every_part_of_a_category_has_its_own_colour() -> None:
    data = examples(0)
    for cloud in range(3):
        colors = [segmented.color_of(data, cloud, part) for part in data.parts(cloud)]
        assert len(set(colors)) == len(colors) == 2


def test_a_wrong_point_is_marked(tmp_path: Path) -> None:
    data = examples(30)
    with style.context():
        right = replace(data, predicted=data.truth)
        marked, plain, truth = (
            segmented.view_image(each, 0, view(each, 0), style.LIGHT)
            for each, view in (
                (data, segmented.predicted_view),
                (right, segmented.predicted_view),
                (data, segmented.truth_view),
            )
        )
    assert plain == truth
    assert marked != truth
