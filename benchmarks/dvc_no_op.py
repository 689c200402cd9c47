"""What `dvc repro` takes where nothing has changed: seconds and processor time.

    python benchmarks/dvc_no_op.py --rounds 5

In a copy of this checkout in a temporary folder, with a small file in place of every data set and
result, which DVC takes for those of its stages. docs/start_up.md has what was measured.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DVC = [sys.executable, "-m", "dvc"]
COMMANDS = {
    "dvc --version": ["--version"],
    "dvc repro experiment@demo": ["repro", "experiment@demo"],
    "dvc repro": ["repro"],
}
FILL = """\
import pathlib
from dvc.repo import Repo
with Repo(".") as repo:
    for stage in repo.index.stages:
        for path in (pathlib.Path(each.fs_path) for each in (*stage.deps, *stage.outs)):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                continue
            if path.suffix:
                path.write_text("{}" if path.suffix == ".json" else path.name)
            else:
                path.mkdir()
                (path / "file.txt").write_text(path.name)
"""


def copied(folder: Path) -> None:
    """What git tracks of this checkout, as a repository whose stages have all run."""
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, files.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    run(folder, ["git", "init", "-q"])
    run(folder, ["git", "add", "-A"])
    run(folder, ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-qm", "x"])
    run(folder, [sys.executable, "-c", FILL])
    run(folder, [*DVC, "commit", "-f", "-q"])


def run(folder: Path, words: Sequence[str]) -> str:
    """What a command says; it has to end well."""
    given = {"DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "tmp" / "site"), "PYTHONPATH": str(folder)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC", "SA3D"))}
    done = subprocess.run(words, cwd=folder, env=kept | given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    """Measure, in turns, and print medians."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder))
        for _ in range(args.rounds):
            for name, words in COMMANDS.items():
                began, used = time.perf_counter(), processor()
                said = run(Path(folder), [*DVC, *words])
                taken[name].append((time.perf_counter() - began, processor() - used))
                if "Running stage" in said:
                    raise SystemExit(f"{name} ran a stage: {said[-2000:]}")
    print(f"# load {os.getloadavg()[0]:.1f}\n| command | s | processor, s |\n|---|---|---|")
    for name, runs in taken.items():
        seconds, used = (statistics.median(each) for each in zip(*runs, strict=True))
        print(f"| `{name}` | {seconds:.2f} | {used:.2f} |")


def processor() -> float:
    """Seconds that all commands so far have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
