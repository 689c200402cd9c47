"""An absence in place of a processed file: whoever asks for the data set is told the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sa3d.config.obtain import ABSENT_FILE, absence
from sa3d.data.store import open_clouds
from sa3d.errors import AbsentDataError, DataError
from sa3d.runs.fingerprint import data_digest

READERS = pytest.mark.parametrize("read", [open_clouds, data_digest])


def file_of(folder: Path, content: bytes, summary: str | None) -> Path:
    """``set.h5`` with its summary."""
    path = folder / "set.h5"
    path.write_bytes(content)
    if summary is not None:
        path.with_suffix(".json").write_text(summary)
    return path


@READERS
def test_the_reason_and_what_to_do_stand_in_the_message(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = file_of(tmp_path, ABSENT_FILE, '{"absent": "no raw data in data/raw/set"}')
    with pytest.raises(AbsentDataError) as caught:
        read(path)
    assert str(caught.value) == (
        "data set set is absent: no raw data in data/raw/set; "
        "`sa3d data check set` says how to obtain it"
    )


@READERS
@pytest.mark.parametrize("summary", [None, "", "[]", "{}", '{"absent": 1}', '{"absent'])
def test_a_mark_without_a_reason_is_damaged(
    tmp_path: Path, read: Callable[[Path], object], summary: str | None
) -> None:
    path = file_of(tmp_path, ABSENT_FILE, summary)
    assert absence(path) is None
    with pytest.raises(DataError) as caught:
        read(path)
    assert not isinstance(caught.value, AbsentDataError)


def test_a_file_with_content_is_no_absence(tmp_path: Path) -> None:
    for content in (b"content", b"absen", b"absent, not", b""):
        assert absence(file_of(tmp_path, content, '{"absent": "left behind"}')) is None
    assert absence(tmp_path / "nothing.h5") is None
