"""Runs of one table that computed in different precisions are named."""

import json
from pathlib import Path

import pytest
from invented import config, write
from page import Page

from sa3d.report import write_report


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two SVMs of every variant, which do not say their precision."""
    made = config(name="mixed", evaluations=[{"task": "svm", "seeds": [0, 1]}])
    return write(tmp_path_factory.mktemp("mixed"), made, clouds=0, steps=4)


def reported(results: Path, precisions: dict[str, str], out: Path) -> tuple[str, str]:
    """The words of both pages where these runs computed so, and all others in fp32."""
    for name, node in json.loads(results.read_text())["nodes"].items():
        if node["spec"]["task"] != "svm":
            continue
        path = Path(node["run_dir"]) / "result.json"
        tree = json.loads(path.read_text())
        tree["protocol"]["precision"] = precisions.get(name, "fp32")
        path.write_text(json.dumps(tree))
    words = Page(write_report(results, out)).words
    return words, (out / "report.md").read_text()


def test_a_table_of_mixed_precisions_says_so(results: Path, tmp_path: Path) -> None:
    mixed = {"svm-shapes-sa3df-s0": "bf16", "svm-shapes-sa3df-s1": "bf16"}
    mixed["svm-shapes-scratch-s1"] = "bf16"
    for text in reported(results, mixed, tmp_path):
        assert (
            "Runs of svm-shapes computed in different precisions, as machines differ "
            "(SA3DF: bf16; MAE (random-masks): fp32; scratch (random weights): fp32 (1 run), bf16 "
            "(1 run))."
        ) in text


def test_nothing_is_said_of_a_table_in_one_precision(results: Path, tmp_path: Path) -> None:
    for text in reported(results, {}, tmp_path):
        assert "different precisions" not in text
