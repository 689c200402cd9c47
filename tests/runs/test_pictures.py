"""The pictures of a run: what it left is drawn, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sa3d.errors import DataError
from sa3d.metrics.classification import classification
from sa3d.runs import pictures
from sa3d.tracking.journal import Journal


def test_curves_and_confusion_are_drawn(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step, loss in enumerate((2.0, float("nan"), 1.0)):
        journal.metrics({"train/loss": loss}, step)
    journal.metrics({"val/acc": 0.5}, 2)  # one point is no curve
    _, confusion = classification(np.array([0, 0, 1]), np.array([0, 1, 1]), ("cube", "ball"))
    result = {"details": {"confusion": confusion}, "artifacts": {"model": "model"}}
    assert pictures.draw(tmp_path, result) == tmp_path / "figures"
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert drawn == ["confusion.png", "loss.png"]
    for name in drawn:
        assert (tmp_path / "figures" / name).read_bytes().startswith(b"\x89PNG")


def test_a_run_without_anything_to_draw_has_no_folder(tmp_path: Path) -> None:
    assert pictures.draw(tmp_path, {}) is None
    assert not (tmp_path / "figures").exists()


def test_a_picture_that_cannot_be_drawn_is_an_error_here(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        pictures.draw(tmp_path, {"artifacts": {"explain": "explain.npz"}})
