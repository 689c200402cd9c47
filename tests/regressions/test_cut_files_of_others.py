"""Files of others that a download or a disk cut off: said in one line, wherever the cut fell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sa3d.checkpoints.containers import read_published
from sa3d.data import readers
from sa3d.errors import CheckpointError, DataError

OFF = b"OFF\n4 2 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n"


def test_a_checkpoint_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    torch.save({"base_model": {f"a{i}": torch.zeros(1000) for i in range(20)}}, path)
    whole = path.read_bytes()
    assert len(read_published(path, ema=False, trust=()).state) == 20
    for size in range(40, len(whole), len(whole) // 60):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError) as told:
            read_published(path, ema=False, trust=())
        (line,) = str(told.value).splitlines()
        assert "download" in line


def test_a_mesh_without_its_counts() -> None:
    assert readers.read(OFF, "off").faces.shape == (2, 3)
    for cut in (b"OFF", b"OFF\n", b"OFF\n4\n", b"OFF\n# made by hand\n\n"):
        with pytest.raises(DataError, match="does not say how many vertices and faces"):
            readers.read(cut, "off")
    for size in range(11, len(OFF) - 2):
        with pytest.raises(DataError, match=r"not a whole \.off file"):
            readers.read(OFF[:size], "off")
