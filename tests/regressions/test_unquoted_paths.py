"""The Makefile's recipes work in a folder of any name, or refuse before anything is touched."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from configobj import ConfigObj

ROOT = Path(__file__).parents[2]
TAKEN = [
    "plain",
    "notes 2024",
    "two  spaces and more",
    " leading and trailing ",
    "it's",
    "feature%2Ffix",
    "50% off",
    "why?",
    "a#b c",
    "x&y",
    "x;y",
    "(copy)",
    "ünï çödé",
    "-dash",
    "--help",
    "~home",
    "[ab]*",
    "a=b,c@d!",
    "<|>",
    "long" * 50,
]
QUICK = ("plain", " leading and trailing ", "it's", "50% off", "x;y", "--help")
REFUSED = {
    "a:b": ":",
    'say "x"': '"',
    "$HOME": "$",
    "$(touch precious)": "$",
    "a`b": "`",
    "back\\slash": "\\",
    "{y}": "{",
    "%(x)s": "%(",
    "two\nlines": "a line break",
    "ends\n": "a line break",
}
TOOLS = ("ruff", "mypy", "lint-imports", "pytest", "dvc", "mlflow")
# Notes the words it is given; makes an environment whose programs are copies of itself.
PYTHON = f"""\
#!/bin/sh
printf '%s' "$(basename "$0")" >> "$RECORD"
for word; do printf '\\t%s' "$word" >> "$RECORD"; done
printf '\\n' >> "$RECORD"
if [ "$1" = -c ]; then exec {shlex.quote(sys.executable)} "$@"; fi
if [ "$1 $2" = "-m venv" ]; then
  for folder; do :; done
  mkdir -p "$folder/bin"
  for tool in python pip {" ".join(TOOLS)}; do cp "$0" "$folder/bin/$tool"; done
fi
"""


@dataclass
class World:
    """A checkout in a folder with a difficult name, and files around it that must stay."""

    around: Path
    checkout: Path
    python: Path

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        clean |= {"RECORD": str(self.around.parent / "record"), "POINT_OPS_BUILD": "0"}
        return subprocess.run(
            ["make", "--no-print-directory", *words, f"PYTHON={self.python}"],
            cwd=self.checkout,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
        )

    def asked(self) -> list[list[str]]:
        """The commands run since the last call, as words."""
        record = self.around.parent / "record"
        found = record.read_text().splitlines() if record.exists() else []
        record.unlink(missing_ok=True)
        return [line.split("\t") for line in found]

    def files(self, *, inside: bool) -> dict[str, bytes | None]:
        """Everything around the checkout (or also in it), with contents."""
        return {
            str(path.relative_to(self.around)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.around.rglob("*"))
            if inside or not path.is_relative_to(self.checkout)
        }


def world_in(folder: Path, name: str) -> World:
    around = folder / "around"
    checkout = around / name / "sa3d"
    (checkout / "extensions").mkdir(parents=True)
    for file in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, checkout / file)
    for place in ("docker", ".dvc", ".ci"):
        shutil.copytree(
            ROOT / place, checkout / place, ignore=shutil.ignore_patterns("tmp", "*.local", "cache")
        )
    (checkout / "extensions" / "setup copy.py").write_text("# kernels\n")
    for word in name.split()[:-1]:  # what the shell would take for a name of its own
        (around / word).write_text("precious")
    (around / "precious").write_text("precious")
    tools = folder / "tools of 'mine'"
    tools.mkdir()
    (tools / "python 3").write_text(PYTHON)
    (tools / "python 3").chmod(0o755)
    return World(around, checkout, tools / "python 3")


@pytest.fixture(
    params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TAKEN]
)
def taken(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = world_in(tmp_path, request.param)
    before = world.files(inside=False)
    yield world
    assert world.files(inside=False) == before


def test_set_up_works_inside_its_folder_alone(taken: World) -> None:
    done = taken.make("setup")
    assert done.returncode == 0, done.stderr
    asked = taken.asked()
    assert ["python 3", "-m", "venv", "--clear", ".venv"] in asked
    assert any(words[-2:] == ["./extensions", "./extensions/compat"] for words in asked)
    assert (taken.checkout / ".venv" / ".installed").read_text().split()[1:] == ["0"]
    again = taken.make("setup")
    assert (again.returncode, again.stdout, taken.asked()) == (0, "", [])
    (taken.checkout / "extensions" / "setup copy.py").write_text("# faster\n")
    assert taken.make("setup").returncode == 0
    assert taken.asked()


def test_set_up_tells_dvc_its_cache_and_keeps_what_is_configured(taken: World) -> None:
    local = taken.checkout / ".dvc" / "config.local"
    local.write_text("['remote \"mine\"']\n    url = /mnt/ü\n", encoding="utf-8")
    done = taken.make("setup")
    assert done.returncode == 0, done.stderr
    assert ConfigObj(str(local), encoding="utf-8").dict() == {
        'remote "mine"': {"url": "/mnt/ü"},
        "core": {"site_cache_dir": str(taken.checkout / ".dvc" / "tmp" / "site")},
    }


def test_every_target_runs_the_tools_of_this_checkout(taken: World) -> None:
    assert taken.make("setup").returncode == 0
    taken.asked()
    wanted = {
        "check": {"ruff", "mypy", "lint-imports", "python", "pytest"},
        "test-faults": {"pytest"},
        "demo": {"dvc"},
        "ui": {"python"},
        "stack": {"python"},
    }
    for target, tools in wanted.items():
        done = taken.make(target)
        assert done.returncode == 0, done.stderr
        asked = taken.asked()
        assert {words[0] for words in asked} == tools
    assert asked == [["python", "-m", "flows.stack", "up"]]
    ci = subprocess.run(
        [str(taken.checkout / ".ci" / "run")],
        cwd="/",
        env={**os.environ, "RECORD": str(taken.around.parent / "record"), "POINT_OPS_BUILD": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ci.returncode == 0, ci.stderr
    assert [words for words in taken.asked() if words[:2] == ["pytest", "-m"]]


def test_ci_finds_its_folder_by_a_relative_name(tmp_path: Path) -> None:
    """CDPATH makes `cd` go to, and print, another folder of that name."""
    world = world_in(tmp_path, "-n dash")
    assert world.make("setup").returncode == 0
    trap = tmp_path / "trap" / ".ci"
    trap.mkdir(parents=True)
    ci = subprocess.run(
        ["sh", ".ci/run"],
        cwd=world.checkout,
        env={**os.environ, "RECORD": str(tmp_path / "record"), "CDPATH": str(trap.parent)}
        | {"POINT_OPS_BUILD": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ci.returncode, ci.stdout.count("trap")) == (0, 0), ci.stderr


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("target", ["setup", "check", "demo", "ui"])
def test_what_cannot_work_is_refused_untouched(tmp_path: Path, name: str, target: str) -> None:
    world = world_in(tmp_path, name)
    before = world.files(inside=True)
    done = world.make(target)
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"setup: {REFUSED[name]} in the path of this folder: ")
    assert all(line.startswith("make: ***") for line in rest)
    assert world.asked() == []
    assert world.files(inside=True) == before


@pytest.mark.parametrize("name", TAKEN)
def test_a_real_environment_works_there(tmp_path: Path, name: str) -> None:
    """What is not refused is taken by Python's own venv and by its `activate`."""
    folder = tmp_path / name
    folder.mkdir()
    words = [sys.executable, "-m", "venv", "--without-pip", ".venv"]
    subprocess.run(words, cwd=folder, check=True)
    said = subprocess.run(
        ["sh", "-c", ". .venv/bin/activate && python -c 'import sys; print(sys.prefix)'"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said == f"{folder / '.venv'}\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", TAKEN)
def test_dvc_reads_what_set_up_wrote_and_runs_there(tmp_path: Path, name: str) -> None:
    world = world_in(tmp_path, name)
    assert world.make("setup").returncode == 0
    here = world.checkout

    def run(*words: str) -> str:
        return subprocess.run(words, cwd=here, check=True, capture_output=True, text=True).stdout

    run("git", "init", "-q")
    dvc = (sys.executable, "-m", "dvc")
    assert run(*dvc, "config", "core.site_cache_dir") == f"{here / '.dvc' / 'tmp' / 'site'}\n"
    (here / "dvc.yaml").write_text("stages: {s: {cmd: pwd > out, outs: [out]}}\n")
    run(*dvc, "repro", "-q")
    assert (here / "out").read_text() == f"{here}\n"
    assert (here / ".dvc" / "tmp" / "site").is_dir()
