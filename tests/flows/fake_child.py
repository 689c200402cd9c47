"""Stands in for ``sa3d`` where the subject is supervision: same options, same files.

Behaviour by file, so that a second flow can differ: a name in ``$FAKE/fail`` fails, a name in
``$FAKE/hang`` waits for SIGTERM and then "saves". Every start is a line of ``$FAKE/started``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from sa3d.config.loading import load_experiment
from sa3d.runs.fingerprint import fingerprint, model_card
from sa3d.utils import paths


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task")
    parser.add_argument("results", nargs="?")
    for name in ("experiment", "params", "out", "threads", "arm", "knowledge-teacher", "device"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--from", dest="source")
    given = parser.parse_args()
    out = Path(given.out)
    if given.task == "report":
        (out / "report.md").write_text("a report\n")
        return
    init = None if given.source in (None, "scratch") else Path(given.source)
    arm = given.arm or ("scratch" if init is None else model_card(init)["arm"])
    told = Path(os.environ["FAKE"])
    with (told / "started").open("a") as file:
        file.write(f"{given.task}-{arm} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\n")
    print("epoch 1/2  9 s left", flush=True)
    if f"{given.task}-{arm}" in listed(told / "hang"):
        signal.signal(signal.SIGTERM, lambda *_: save_and_leave(out))
        time.sleep(300)
    if f"{given.task}-{arm}" in listed(told / "fail"):
        print("ValueError: seven is not six", file=sys.stderr)
        sys.exit(1)
    config = load_experiment(given.experiment, Path(given.params))
    teacher = given.knowledge_teacher and Path(given.knowledge_teacher)
    mark = fingerprint(
        given.task,
        config,
        arm=arm,
        clouds=paths.processed(config.data.name),
        init=init,
        knowledge_teacher=teacher,
    )
    if given.task == "pretrain":
        (out / "model").mkdir(exist_ok=True)
        (out / "model" / "model.safetensors").write_bytes(b"weights of " + arm.encode())
        card = {"arm": arm, "sha256": f"{arm}-{config.pretrain.epochs}", "fingerprint": mark}
        (out / "model" / "model.json").write_text(json.dumps(card))
    result = {"fingerprint": mark, "metrics": {"test/acc": 0.5}, "seconds": 0.1}
    beside = out / "result.tmp"
    beside.write_text(json.dumps(result))
    beside.replace(out / "result.json")


def listed(path: Path) -> list[str]:
    return path.read_text().split() if path.is_file() else []


def save_and_leave(out: Path) -> None:
    (out / "last.pt").write_text("saved")
    sys.exit(143)


if __name__ == "__main__":
    main()
