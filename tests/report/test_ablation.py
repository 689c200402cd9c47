"""The report of an ablation: what its table, sentences and figures say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sa3d.errors import DataError
from sa3d.report.ablation import read, write_ablation

METRIC = {"label": "accuracy", "share": True, "higher_is_better": True}


def written(folder: Path, cells: list[tuple[dict[str, Any], list[float]]], **more: Any) -> Path:
    tree = {
        "format": 1,
        "name": "demo-ablation-sa3df",
        "axes": list(dict.fromkeys(key for values, _ in cells for key in values)),
        "evaluations": {"svm-shapes": METRIC},
        "cells": [
            {
                "name": f"cell-{number}",
                "values": values,
                "values_of": {"svm-shapes": found} if found else {},
                "finished": len(found),
                "runs": 2,
            }
            for number, (values, found) in enumerate(cells)
        ],
        "command": "python -m flows.ablation demo",
        "compute_seconds": 90.0,
        "reused": ["a"],
        **more,
    }
    path = folder / "ablation.json"
    path.write_text(json.dumps(tree))
    return path


GRID: list[tuple[dict[str, Any], list[float]]] = [
    ({"mask_ratio": 0.5, "mask": "gc", "end_ratio": 0.3}, [0.7, 0.8]),
    ({"mask_ratio": 0.5, "mask": "random"}, [0.6]),
    ({"mask_ratio": 0.7, "mask": "gc", "end_ratio": 0.3}, [0.5, 0.5]),
    ({"mask_ratio": 0.7, "mask": "random"}, []),
]


def test_table_and_sentence(tmp_path: Path) -> None:
    page = write_ablation(written(tmp_path, GRID), tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    lines = (tmp_path / "out" / "report.md").read_text().splitlines()
    assert lines[2] == (
        "- svm-shapes: best accuracy 75.0 % with mask_ratio=0.5, mask=gc, end_ratio=0.3."
    )
    table = [[text.strip() for text in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    assert table[0] == ["mask_ratio", "mask", "end_ratio", "svm-shapes: accuracy", "runs"]
    assert table[2:] == [
        ["0.5", "gc", "0.3", "**75.0 % ± 7.1 % (2 runs)**", "2 of 2"],
        ["0.5", "random", "—", "60.0 %", "1 of 2"],
        ["0.7", "gc", "0.3", "50.0 % ± 0.0 % (2 runs)", "2 of 2"],
        ["0.7", "random", "—", "—", "0 of 2"],
    ]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["cell-0"]["svm-shapes"] == {
        "mean": pytest.approx(0.75),
        "sd": pytest.approx(0.0707, abs=1e-4),
        "runs": 2,
    }
    assert metrics["cell-3"]["svm-shapes"]["mean"] is None


def test_the_page_stands_alone_and_has_the_figure(tmp_path: Path) -> None:
    write_ablation(written(tmp_path, GRID), tmp_path)
    assert (tmp_path / "figures" / "svm-shapes.png").read_bytes()[:4] == b"\x89PNG"
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    for label in ("mask=gc, end_ratio=0.3", "mask=random"):  # a line each
        assert label in page
    assert "python -m flows.ablation demo" in page


def test_without_a_number_that_varies_each_combination_is_a_dot(tmp_path: Path) -> None:
    cells: list[tuple[dict[str, Any], list[float]]] = [
        ({"mask": "gc", "depth": 4}, [0.7]),
        ({"mask": "random", "depth": 4}, [0.7]),
    ]
    write_ablation(written(tmp_path, cells), tmp_path)
    said = (tmp_path / "report.md").read_text()
    assert "best accuracy 70.0 % with mask=gc, depth=4 and with mask=random, depth=4." in said
    assert "One run each: no spread is known." in said
    assert "mask=random, depth=4" in (tmp_path / "report.html").read_text()


def test_nothing_finished_is_said_and_not_drawn(tmp_path: Path) -> None:
    write_ablation(written(tmp_path, [({"mask": "gc"}, []), ({"mask": "random"}, [])]), tmp_path)
    assert "svm-shapes: no run finished." in (tmp_path / "report.md").read_text()
    assert not list(tmp_path.glob("figures/*"))


def test_lower_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    metric = METRIC | {"label": "loss", "share": False, "higher_is_better": False}
    cells: list[tuple[dict[str, Any], list[float]]] = [({"lr": 0.1}, [0.4]), ({"lr": 0.2}, [0.3])]
    source = written(tmp_path, cells, evaluations={"svm-shapes": metric})
    found = read(source)
    assert [row.name for row in found.best("svm-shapes")] == ["cell-1"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}'])
def test_another_file_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "ablation.json").write_text(text)
    with pytest.raises(DataError, match="is not what an ablation leaves"):
        write_ablation(tmp_path / "ablation.json", tmp_path)
    with pytest.raises(DataError, match="is not what an ablation leaves"):
        write_ablation(tmp_path / "none" / "ablation.json", tmp_path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has format 2, this version reads 1"):
        write_ablation(written(tmp_path, GRID, format=2), tmp_path)
