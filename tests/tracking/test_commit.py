"""Which commit a run is recorded with where there is no checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from sa3d.tracking import lineage


def test_an_image_says_what_it_was_built_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("SA3D_COMMIT", "")
    unknown = lineage.git.__wrapped__(tmp_path)
    assert list(unknown) == ["git.unknown"]
    assert "not a git repository" in unknown["git.unknown"]
    monkeypatch.setenv("SA3D_COMMIT", "f00d")
    assert lineage.git.__wrapped__(tmp_path) == {"git.commit": "f00d"}
