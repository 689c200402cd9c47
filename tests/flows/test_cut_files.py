"""A file of a run that other hands cut short: one line that names it, or it is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.conftest import Project

pytestmark = pytest.mark.slow


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_a_cut_result_costs_one_line_and_deleting_it_is_enough(served: Project) -> None:
    assert served.run()[0] == 0
    served.started()
    cut = only(served.root / "work", "svm-shapes-scratch-s3-*/result.json")
    cut.write_bytes(cut.read_bytes()[:20])
    code, said = served.run()
    assert code == 1
    # when it happens, and again at the end
    first, line = [line for line in said.splitlines() if "result.json" in line]
    assert "cannot read" in first
    assert "cannot read" in line
    assert f"delete it ({cut})" in line
    assert "Traceback" not in said
    assert served.started() == []
    cut.unlink()
    code, said = served.run()
    assert code == 0, said
    assert served.started() == ["svm-shapes-scratch-s3"]
