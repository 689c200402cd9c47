"""What a result states of its data: the summary beside the clouds, or one line if it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from sa3d.errors import DataError
from sa3d.runs.result import read_summary


def test_a_summary_is_read_and_need_not_be_there(tmp_path: Path) -> None:
    clouds = tmp_path / "shapes.h5"
    assert read_summary(clouds) == {}
    clouds.with_suffix(".json").write_text('{"digest": "d"}')
    assert read_summary(clouds) == {"digest": "d"}


@pytest.mark.parametrize("spoilt", [b'{"digest": "d', b"", b"[]", b"\xff"])
def test_a_summary_that_was_cut_short_is_named(tmp_path: Path, spoilt: bytes) -> None:
    summary = tmp_path / "shapes.json"
    summary.write_bytes(spoilt)
    with pytest.raises(DataError, match=r"cannot read .*shapes\.json: it is cut short; ") as raised:
        read_summary(tmp_path / "shapes.h5")
    assert "\n" not in str(raised.value)
