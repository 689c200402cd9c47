"""Where git cannot tell a commit, a run is made all the same, and its record says what is unknown
and why."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sa3d.tracking import checks, lineage


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SA3D_COMMIT", raising=False)
    lineage.git.cache_clear()
    yield
    lineage.git.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for words in (["init", "-q", str(root)], ["-C", str(root), *COMMIT]):
        subprocess.run(["git", *words], check=True, capture_output=True)
    return root


COMMIT = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"]


def wrapper(folder: Path, script: str) -> str:
    """A PATH whose git is a script."""
    folder.mkdir()
    path = folder / "git"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_checkout_tells_both(checkout: Path) -> None:
    found = lineage.git(checkout)
    assert set(found) == {"git.commit", "git.dirty"}
    assert len(found["git.commit"]) == 40


def test_a_status_that_takes_long_costs_the_status_alone(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("git")
    script = f"""case "$*" in *" status "*) exec sleep 45;; esac; exec {real} "$@\""""
    monkeypatch.setenv("PATH", wrapper(tmp_path / "bin", script))
    monkeypatch.setattr(lineage, "_GIT_SECONDS", 3.0)
    found = lineage.git(checkout)
    assert set(found) == {"git.commit", "git.unknown"}
    assert found["git.unknown"] == "`git status` took more than 3 s"


def test_no_repository(tmp_path: Path) -> None:
    found = lineage.git(tmp_path)
    assert set(found) == {"git.unknown"}
    assert "not a git repository" in found["git.unknown"]


def test_no_git(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lineage.git(checkout) == {"git.unknown": "git cannot be run: No such file or directory"}


@pytest.mark.parametrize("script", [None, "exec sleep 45"])
def test_a_commit_that_cannot_be_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    """As in an image that was told its commit: without git, or with one that does not answer."""
    monkeypatch.setattr(lineage, "_GIT_SECONDS", 1.0)
    monkeypatch.setattr(checks, "_GIT_SECONDS", 1.0)
    monkeypatch.setenv("SA3D_COMMIT", "0" * 40)
    path = str(tmp_path) if script is None else wrapper(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", path)
    (found,) = checks.commit("0" * 40, "false")
    assert (found.state, found.text) == (
        "unknown",
        "git cannot be asked here whether it has the commit",
    )


def test_git_is_asked_to_speak_english(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of two machines are compared, whatever the language of their users."""
    git = tmp_path / "tools" / "git"
    git.parent.mkdir()
    git.write_text('#!/bin/sh\necho "fatal: in $LC_ALL:$LANGUAGE." >&2\nexit 128\n')
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    monkeypatch.setenv("LANGUAGE", "fr")
    assert lineage.git(checkout) == {"git.unknown": "fatal: in C:."}


def test_a_repository_of_somebody_else(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for this
    found = lineage.git(checkout)
    assert set(found) == {"git.unknown"}
    assert "dubious ownership" in found["git.unknown"]


def test_a_shallow_clone_tells_both(checkout: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    command = ["git", "clone", "-q", "--depth=1", checkout.as_uri(), str(clone)]
    subprocess.run(command, check=True)
    assert lineage.git(clone) == lineage.git(checkout)


def test_every_run_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    assert "not a git repository" in lineage.tags()["git.unknown"]
    monkeypatch.setenv("SA3D_COMMIT", "0" * 40)
    lineage.git.cache_clear()
    assert lineage.tags()["git.commit"] == "0" * 40
    assert "git.unknown" not in lineage.tags()
