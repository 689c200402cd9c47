"""A killed ``prepare`` goes on where it was, with the same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import official_layouts as layouts
import pytest

from sa3d.data.prepare import prepare
from sa3d.data.sources.modelnet40 import source as modelnet40
from sa3d.data.sources.modelnet40.settings import ModelNet40Source

KILLED = """
import sys, time
from pathlib import Path
from sa3d.data import spool
from sa3d.data.prepare import prepare
from sa3d.data.sources.modelnet40.settings import ModelNet40Source
add = spool.Spool.add
def slowly(*arguments):
    add(*arguments)
    time.sleep(0.05)
spool.Spool.add = slowly
prepare("x", ModelNet40Source(source="modelnet40", root=sys.argv[1], variant=10, points=None),
        Path(sys.argv[2]), quiet=True)
"""


def source(root: Path, **changes: Any) -> ModelNet40Source:
    values = {"source": "modelnet40", "root": str(root), "variant": 10, "points": None}
    return ModelNet40Source(**values | changes)


@pytest.fixture
def killed(tmp_path: Path) -> int:
    """A tree of 20 clouds below ``raw``, and how many of them a killed process had parsed."""
    layouts.write_modelnet40(tmp_path / "raw")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", KILLED, str(tmp_path / "raw"), str(tmp_path / "x.h5")]
    process = subprocess.Popen(words, env=env)
    index = tmp_path / ".x.h5.spool" / "index.jsonl"
    end = time.monotonic() + 60
    while not index.is_file() or index.read_text().count("\n") < 6:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "x.h5").exists()
    return index.read_text().count("\n") - 1


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the clouds that are parsed."""
    seen: list[str] = []
    parse = modelnet40.parse

    def watched(file: Any) -> Any:
        seen.append(file.id)
        return parse(file)

    monkeypatch.setattr(modelnet40, "parse", watched)
    return seen


def test_a_killed_prepare_goes_on(killed: int, parsed: list[str], tmp_path: Path) -> None:
    assert 5 <= killed < 20
    prepare("x", source(tmp_path / "raw"), tmp_path / "x.h5", quiet=True)
    assert len(parsed) == 20 - killed
    prepare("x", source(tmp_path / "raw"), tmp_path / "y.h5", quiet=True)
    assert len(parsed) == 20 - killed + 20
    assert (tmp_path / "x.h5").read_bytes() == (tmp_path / "y.h5").read_bytes()
    assert not (tmp_path / ".x.h5.spool").exists()


def test_files_that_changed_since_are_parsed_again(
    killed: int, parsed: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "raw" / "bathtub" / "bathtub_0001.txt"  # the first of the list
    file.write_text(file.read_text().replace("0", "1"))  # of the same size
    prepare("x", source(tmp_path / "raw"), tmp_path / "x.h5", quiet=True)
    assert "bathtub_0001" in parsed
    assert len(parsed) == 20 - killed + 1


def test_other_settings_begin_anew(killed: int, parsed: list[str], tmp_path: Path) -> None:
    prepare("x", source(tmp_path / "raw", points=64), tmp_path / "x.h5", quiet=True)
    assert len(parsed) == 20


def test_another_place_begins_anew(killed: int, parsed: list[str], tmp_path: Path) -> None:
    (tmp_path / "raw").rename(tmp_path / "moved")
    prepare("x", source(tmp_path / "moved"), tmp_path / "x.h5", quiet=True)
    assert len(parsed) == 20
