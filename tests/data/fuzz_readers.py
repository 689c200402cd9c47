"""Damaged files for every reader, and a process of limited memory and time that reads them.

    python tests/data/fuzz_readers.py --count 10000 --keep FOLDER

Mutations are drawn from a seed, so that the n-th file of a format is always the same one. A file
is *read* or *refused* in one line; anything else (another exception, a crash, more than 5 s, memory
that the limit does not give) is a failure, and the file is kept.
"""

from __future__ import annotations

import argparse
import json
import queue
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from damaged_files import mutant, wholes

SECONDS: Final = 5.0
MEMORY: Final = 2 << 30


# --- reading them --------------------------------------------------------------------------


class Case(NamedTuple):
    """A file that is read: the ``number``-th damaged one, or one at ``path``."""

    kind: str
    number: int = -1
    path: str = ""

    def content(self) -> bytes:
        return Path(self.path).read_bytes() if self.path else mutant(self.kind, self.number)


class Failed(NamedTuple):
    """What went wrong with a file."""

    case: Case
    what: str


def outcome(data: bytes, kind: str) -> str:
    """``read`` or ``refused``; or what else happened."""
    import numpy as np

    from sa3d.data.mesh import Mesh, sample_surface
    from sa3d.data.readers import read
    from sa3d.data.store import check_cloud
    from sa3d.errors import DataError

    try:
        found = read(data, kind)
        points = found.points if not isinstance(found, Mesh) else None
        if points is None:
            points = sample_surface(found, 64, np.random.default_rng(0))[0]
        check_cloud(points, "it")
    except DataError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return "wanted more memory than there is"
            cause = cause.__cause__
        return "refused" if "\n" not in str(error) else "refused in several lines"
    except BaseException as error:  # also Rust's panics
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "read"


def _child() -> None:
    """Reads the cases that come on standard input, one JSON list a line."""
    from sa3d import registry

    for kind in registry.READERS:  # imports of readers take longer than a file may
        assert outcome(wholes(kind)[0], kind) == "read", kind
    print(flush=True)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        case = Case(*json.loads(line))
        said = outcome(case.content(), case.kind)
        print(json.dumps([said, _peak_kib()]), flush=True)


def _peak_kib() -> int:
    """The most memory of this process; ``ru_maxrss`` would begin with that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


class Reader:
    """A child that reads one case after another, and a new one where it dies or hangs."""

    def __init__(self) -> None:
        self.peak_kib = 0
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._lines.get(timeout=120.0)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        lines = self._lines
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    def read(self, case: Case) -> str:
        """``read``, ``refused``, or what else happened."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=SECONDS)
        except queue.Empty:
            self.close()
            self._start()
            return f"took more than {SECONDS:g} s"
        if not line:
            code = self._process.wait()
            self._start()
            return f"the process ended with {code}"
        said, peak = json.loads(line)
        self.peak_kib = max(self.peak_kib, peak)
        return str(said)

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()


def mutants(count: int, kinds: tuple[str, ...]) -> Iterator[Case]:
    """``count`` cases, as many of every format."""
    for at in range(count):
        yield Case(kinds[at % len(kinds)], at // len(kinds))


def main() -> None:
    from sa3d import registry

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--kinds", nargs="*", default=list(registry.READERS))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        _child()
        return
    reader, tally, failed = Reader(), Counter[str](), 0
    began = time.perf_counter()
    for case in mutants(options.count, tuple(options.kinds)):
        said = reader.read(case)
        tally[said if said in ("read", "refused") else "failed"] += 1
        if said not in ("read", "refused"):
            failed += 1
            print(case.kind, case.number, said, flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{case.number}.{case.kind}").write_bytes(case.content())
    reader.close()
    seconds = time.perf_counter() - began
    print(f"{dict(tally)} in {seconds:.0f} s; peak {reader.peak_kib >> 10} MiB")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
