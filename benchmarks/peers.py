"""Other packages that ``benchmarks/point_ops.py`` compares with; none is needed by the program."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

PEERS: Final = {  # module: package
    "fpsample": "fpsample",
    "torch_quickfps": "torch-quickfps",
    "torch_fps": "torch-fps",
    "faiss": "faiss-cpu",
}
ASKING: Final = ("--disable-pip-version-check", "--retries", "1", "--timeout", "10")


def install(folder: Path, wanted: Collection[str]) -> None:
    """Fetch the wanted peers that are not there, each on its own, and put them on the path."""
    sys.path.append(str(folder))
    for name in wanted:
        if importlib.util.find_spec(name):
            continue
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", *ASKING]
        command += ["--target", str(folder), PEERS[name]]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            print(f"# {PEERS[name]} does not install here, left out")
    importlib.invalidate_caches()


def load(name: str) -> Any | None:
    """A peer, or None; a peer that is not there or breaks on import is named."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"# {name} is left out: {str(error)[:100]}")
        return None
