"""The kernels count towards every fingerprint, wherever they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sa3d.errors import ConfigError
from sa3d.runs import code

ROOT = Path(__file__).parents[2]


def test_kernels_count_and_are_the_same_in_a_checkout_and_in_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "extensions"
    unbuilt = shutil.ignore_patterns("build", "*.egg-info", "*.so", "__pycache__", "compat")
    shutil.copytree(ROOT / "extensions", checkout, ignore=unbuilt)
    built = tmp_path / "built"
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)],
        cwd=checkout,
        env=os.environ | {"POINT_OPS_BUILD": "0"},
        check=True,
        capture_output=True,
    )

    def from_(folder: Path) -> str:
        spec = SimpleNamespace(submodule_search_locations=[str(folder / "point_ops")])
        monkeypatch.setattr(code.importlib.util, "find_spec", lambda name: spec)
        code._meaning.cache_clear()
        return str(code.code_digest.__wrapped__())

    before = from_(checkout)
    assert from_(built) == before
    header = checkout / "csrc" / "fps.h"
    text = header.read_text()
    header.write_text(f"// a comment\n/* and \n another */\n\n{text}  // changed\n")
    assert from_(checkout) == before, "comments and layout do not count"
    header.write_text(f"{text}\nint changed;\n")
    assert from_(checkout) != before
    header.write_text(text)
    with (checkout / "point_ops" / "__init__.py").open("a") as source:
        source.write("CHANGED = 1\n")
    assert from_(checkout) != before
    shutil.rmtree(built / "point_ops" / "csrc")
    with pytest.raises(ConfigError, match="lacks the sources of its kernels; run `make setup`"):
        from_(built)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("int a; // x\nint b;", "int a;\nint b;", True),
        ("int a; /* x\n y */ int b;", "int  a;\n\tint b;", True),
        ("int a = 1;", "int a = 2;", False),
        ('f("http://a");', 'f("http://b");', False),
        ('f("/* a */");', 'f("/* b */");', False),
        (r'f("\"// a");', r'f("\"// b");', False),
        ("f('\"'); // \" x\nint a;", "f('\"'); // \" y\nint a;", True),
        ('f(\'"\', "//a");', 'f(\'"\', "//b");', False),
        ("int a = b /c/ d;", "int a = b / c / e;", False),
    ],
)
def test_what_counts_of_cpp(tmp_path: Path, one: str, other: str, same: bool) -> None:
    meanings = []
    for number, text in enumerate((one, other)):
        file = tmp_path / f"{number}.cpp"
        file.write_text(text)
        meanings.append(code._meaning(file))
    assert (meanings[0] == meanings[1]) is same
