"""Stands in for ``sa3d`` where the subject is supervision: same options, same files.

Behaviour by file, so that a second flow can differ: a node named in ``$FAKE/fail`` fails, one in
``$FAKE/hang`` waits for SIGTERM and then "saves", one in ``$FAKE/slow`` waits until that file no
longer names it. Every start is a line of ``$FAKE/started``, with what it computes on. Imports
nothing heavy.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    given = parsed()
    out = Path(given.out)
    if given.task == "report":
        (out / "report.md").write_text("a report\n")
        return
    name, _, fingerprint = out.name.rpartition("-")
    told = Path(os.environ["FAKE"])
    with (told / "started").open("a") as file:
        given_it = [os.environ[key] for key in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")]
        file.write(f"{' '.join([name, str(os.getpid()), *given_it])}\n")
    print("epoch 1/2  9 s left", flush=True)
    if name in listed(told / "hang"):
        signal.signal(signal.SIGTERM, lambda *_: save_and_leave(out))
        time.sleep(300)
    while name in listed(told / "slow"):
        time.sleep(0.05)
    if name in listed(told / "fail"):
        try:
            raise ValueError("seven is not six")
        except ValueError:
            import traceback

            traceback.print_exc()
            sys.exit(1)
    if given.task == "pretrain":
        (out / "model").mkdir(exist_ok=True)
        (out / "model" / "model.safetensors").write_bytes(b"weights")
        (out / "model" / "model.json").write_text(json.dumps({"sha256": fingerprint * 4}))
    result = {"fingerprint": fingerprint, "metrics": {"test/acc": 0.5}, "seconds": 0.1}
    beside = out / "result.tmp"
    beside.write_text(json.dumps(result))
    beside.replace(out / "result.json")


def parsed() -> argparse.Namespace:
    """The options of ``sa3d report``, ``sa3d pretrain`` and the downstream tasks."""
    task = sys.argv[1]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("task")
    parser.add_argument("--out", required=True)
    if task == "report":
        parser.add_argument("results")
        return parser.parse_args()
    parser.add_argument("-e", "--experiment", required=True)
    parser.add_argument("--params", required=True, type=existing)
    parser.add_argument("--threads", required=True, type=int)
    for option in ("--variant", "--seed", "--device"):
        parser.add_argument(option, required=True)
    if task == "pretrain":
        parser.add_argument("--teacher", type=existing)
    else:
        for option in ("--data", "--label"):
            parser.add_argument(option, required=True)
        parser.add_argument("--fold")
        parser.add_argument("--from", dest="start", type=existing)
    given = parser.parse_args()
    if getattr(given, "start", None) is not None and given.variant == "scratch":
        parser.error("--from with a variant that starts from random weights")
    return given


def existing(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"no {text}")
    return path


def listed(path: Path) -> list[str]:
    return path.read_text().split() if path.is_file() else []


def save_and_leave(out: Path) -> None:
    (out / "last.pt").write_text("saved")
    sys.exit(143)


if __name__ == "__main__":
    main()
