"""DVC reads ``params.yaml`` as YAML 1.2, and ``dvc exp run -S`` writes it anew as such: what it
finds there, we find too."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sa3d.config.loading import load_experiment
from sa3d.config.yaml_file import read_value, read_yaml

READ: dict[str, Any] = {
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "0b11": 3,
    "-07": -7,
    "+5": 5,
    "1_000": 1000,
    "1:30": "1:30",
    "1:30.5": "1:30.5",
    "190:20:30": "190:20:30",
    "on": "on",
    "Off": "Off",
    "yes": "yes",
    "NO": "NO",
    "y": "y",
    "true": True,
    "FALSE": False,
    "1e-3": 1e-3,
    "1E3": 1e3,
    "1.0e+3": 1e3,
    "1.": 1.0,
    ".5": 0.5,
    "-.5": -0.5,
    "-1.5e-3": -1.5e-3,
    ".inf": float("inf"),
    "-.INF": float("-inf"),
    "~": None,
    "null": None,
    "2024-01-01": date(2024, 1, 1),
    "1.2.3": "1.2.3",
    "0o9": "0o9",
    "08": 8,
    ".": ".",
    "e5": "e5",
    "'010'": "010",
    '"on"': "on",
}


@pytest.mark.parametrize("text", sorted(READ))
def test_plain_values(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"key: {text}\n")
    for found in (read_yaml(path)["key"], read_value(text)):
        assert found == READ[text]
        assert type(found) is type(READ[text])


@pytest.mark.parametrize("text", sorted(READ))
def test_dvc_finds_the_same(text: str) -> None:
    serialize = pytest.importorskip("dvc.utils.serialize")
    found = serialize.parse_yaml(f"key: {text}\n", "params.yaml")["key"]
    assert found == READ[text]
    assert type(found) is type(READ[text])


def test_a_variant_that_dvc_writes_without_quotes(tiny: Path, tmp_path: Path) -> None:
    """``"on"`` in quotes comes back without them from ``dvc exp run -S``."""
    serialize = pytest.importorskip("dvc.utils.serialize")
    text = (tiny / "params.yaml").read_text().replace("scratch: {scratch", '"on": {scratch')
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with serialize.modify_yaml(str(path)) as tree:
        tree["experiments"]["tiny"]["pretrain"]["lr"] = 0.00001
    assert "on: {scratch" in path.read_text()
    experiment = load_experiment("tiny", path)
    assert "on" in experiment.variants
    assert all(method.lr == 1e-5 for method in experiment.methods.values())
