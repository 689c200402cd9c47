"""What a source file means: the same under every Python, whatever its comments and layout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sa3d.utils import syntax

SOURCE = '''
"""Docstring."""
def f(x: int) -> str:
    """Another."""
    return f"{x!r:>{4}} {'a'}" "b"  # a comment
class C:
    a: int = 1
    """Of an attribute."""
'''
ALL = f"""
import importlib.util, hashlib, pathlib
spec = importlib.util.spec_from_file_location("syntax", {syntax.__file__!r})
syntax = importlib.util.module_from_spec(spec)
spec.loader.exec_module(syntax)
digest = hashlib.sha256()
for path in sorted(pathlib.Path({str(Path(syntax.__file__).parents[1])!r}).rglob("*.py")):
    digest.update(syntax.meaning(path.read_bytes()))
print(digest.hexdigest())
"""


def pythons() -> list[str]:
    """Other versions that are here: on the path, and those that pyenv has."""
    names = ["python3.12", "python3.13"]
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = [str(path) for name in names for path in root.glob(f"versions/*/bin/{name}")]
    return found or [path for name in names if (path := shutil.which(name))]


def test_comments_layout_and_docstrings_do_not_count() -> None:
    plain = "def f(x: int)->str:\n  return f\"{x!r:>{4}} {'a'}b\"\nclass C:\n  a: int = 1\n"
    assert syntax.meaning(SOURCE.encode()) == syntax.meaning(plain.encode())


@pytest.mark.parametrize(
    ("old", "new"), [("{4}", "{5}"), ("!r", "!s"), ("a: int = 1", "a: int = 2"), ("-> str", "")]
)
def test_what_changes_the_program_counts(old: str, new: str) -> None:
    assert syntax.meaning(SOURCE.encode()) != syntax.meaning(SOURCE.replace(old, new).encode())


def test_a_text_is_not_a_name() -> None:
    assert syntax.meaning(b"x = 'y'") != syntax.meaning(b"x = y")
    assert syntax.meaning(b"x = 1") != syntax.meaning(b"x = 1.0")
    assert syntax.meaning(b"x = 1") != syntax.meaning(b"x = True")


@pytest.mark.slow
@pytest.mark.skipif(not pythons(), reason="one version of Python here")
def test_every_version_of_python_reads_the_same() -> None:
    said = {
        subprocess.run([python, "-c", ALL], check=True, capture_output=True, text=True).stdout
        for python in (sys.executable, *pythons())
    }
    assert len(said) == 1
