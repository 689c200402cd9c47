"""The ordered map over processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sa3d.data.parallel import ordered_map


@pytest.mark.parametrize("count", [0, 3, 64, 200])
def test_order_is_kept(count: int) -> None:
    assert list(ordered_map(abs, range(-count, 0))) == list(range(count, 0, -1))


def test_it_does_not_run_far_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(500):
            taken.append(number)
            yield number

    results = ordered_map(abs, items())
    for _ in range(100):
        next(results)
    time.sleep(0.5)  # workers have time to go on: nothing may be taken while nobody asks
    assert len(taken) < 200
    results.close()


def test_an_error_in_a_worker_comes_back() -> None:
    with pytest.raises(TypeError):
        list(ordered_map(abs, [1] * 100 + ["x"]))


WORKERS_ALIVE = """
import os, time
from sa3d.data.parallel import ordered_map
def work(number):
    time.sleep(0.1 * (number >= 64))
    return os.getpid()
if __name__ == "__main__":
    results = ordered_map(work, range(10_000))
    print(*{next(results) for _ in range(70)} - {os.getpid()}, flush=True)
    time.sleep(60)
"""


def test_a_kill_leaves_no_workers(tmp_path: Path) -> None:
    script = tmp_path / "alive.py"
    script.write_text(WORKERS_ALIVE)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert workers
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 10
    while alive := [worker for worker in workers if is_alive(worker)]:
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    for worker in alive:
        worker.kill()
    assert not alive


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs: not ended, and not ended without anyone having asked for its status."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


THREADS = """
import numpy as np
from threadpoolctl import threadpool_info
from sa3d.data.parallel import pool
def threads(_):
    np.ones((2, 2)) @ np.ones((2, 2))
    return [found["num_threads"] for found in threadpool_info()]
if __name__ == "__main__":
    with pool(1) as workers:
        print(workers.submit(threads, 0).result())
"""


def test_a_worker_has_one_thread_although_the_main_module_loads_numpy(tmp_path: Path) -> None:
    script = tmp_path / "threads.py"
    script.write_text(THREADS)
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    said = subprocess.run(
        [sys.executable, str(script)], env=free, check=True, capture_output=True, text=True
    ).stdout
    counts = [int(number) for number in said.strip("[]\n").split(",")]
    assert counts == [1] * len(counts)
