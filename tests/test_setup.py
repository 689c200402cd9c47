"""``make setup``: nothing twice, and one clear line where something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What set-up reads, and a `.venv` whose python notes what it is asked to do."""
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "extensions").mkdir()
    (tmp_path / "extensions" / "setup.py").write_text("# kernels\n")
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for tool in ("python", "pip"):
        (tools / tool).write_text(f'#!/bin/sh\necho "{tool} $*" >> {tmp_path}/asked\n')
        (tools / tool).chmod(0o755)
    return tmp_path


def make(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=folder,
        env={**clean, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def asked(folder: Path) -> list[str]:
    path = folder / "asked"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_set_up_installs_once_and_again_only_for_a_change(checkout: Path) -> None:
    assert make(checkout, "setup").returncode == 0
    first = asked(checkout)
    assert any("-r requirements.txt" in line for line in first)
    assert any("./extensions" in line for line in first)
    done = make(checkout, "setup")
    assert (done.returncode, done.stdout, asked(checkout)) == (0, "", [])
    (checkout / "extensions" / "setup.py").write_text("# faster kernels\n")
    assert make(checkout, "setup").returncode == 0
    assert asked(checkout)


def test_an_install_that_fails_is_not_taken_for_done(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    good = python.read_text()
    python.write_text("#!/bin/sh\nexit 1\n")
    assert make(checkout, "setup").returncode == 2
    python.write_text(good)
    assert make(checkout, "setup").returncode == 0
    assert asked(checkout)


def test_a_venv_without_pip_is_made_again(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "pip").unlink()  # as an interrupted `python -m venv` leaves it
    begin = checkout / "python3.11"
    pip = checkout / ".venv" / "bin" / "pip"
    begin.write_text(
        f'#!/bin/sh\necho "begin $*" >> {checkout}/asked\n'
        f'if [ "$1" = -m ]; then touch {pip}; chmod +x {pip}; fi\n'
    )
    begin.chmod(0o755)
    done = make(checkout, "setup", f"PYTHON={begin}")
    found = asked(checkout)
    assert "begin -m venv --clear .venv" in found, done.stderr
    assert any("-r requirements.txt" in line for line in found)


def test_no_python_is_one_line_and_status_2(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    done = make(checkout, "setup", "PYTHON=/nowhere/python3.11")
    assert done.returncode == 2
    assert done.stderr.startswith("setup: no working /nowhere/python3.11")
    assert "install Python 3.11" in done.stderr
    assert not (checkout / ".venv").exists()


def test_no_compiler_is_one_line_and_status_2_and_can_be_done_without(checkout: Path) -> None:
    done = make(checkout, "setup", CXX="/nowhere/c++")
    assert done.returncode == 2
    assert done.stderr.startswith("setup: no C++ compiler; install one")
    assert "POINT_OPS_BUILD=0" in done.stderr
    assert asked(checkout) == []
    assert make(checkout, "setup", "POINT_OPS_BUILD=0", CXX="/nowhere/c++").returncode == 0
    assert asked(checkout)


def test_every_target_is_explained() -> None:
    done = make(ROOT, "help")
    assert done.returncode == 0
    for target in ("setup", "check", "test", "demo"):
        assert any(line.startswith(f"{target} ") for line in done.stdout.splitlines())


def test_pins_that_hold_the_servers_up() -> None:
    """Prefect's server dies at import with fastapi from 0.151 on."""
    for name in ("requirements.txt", "constraints.txt"):
        [line] = [x for x in (ROOT / name).read_text().splitlines() if x.startswith("fastapi==")]
        major, minor, _ = line.split("#")[0].strip().removeprefix("fastapi==").split(".")
        assert (int(major), int(minor)) < (0, 151)


def test_constraints_agree_with_requirements() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = [x.split("#")[0].strip() for x in (ROOT / name).read_text().splitlines()]
        pairs = [x.split("==") for x in lines if "==" in x]
        return {key.lower().replace("_", "-"): value for key, value in pairs}

    fixed = pins("constraints.txt")
    for package, version in pins("requirements.txt").items():
        if package not in ("setuptools", "wheel"):  # pip freeze leaves these out
            assert fixed[package] == version
