"""The service under load: clients that ask at once, every tenth request wrong.

    python -m benchmarks.serving [MODEL] [--requests 50] [--points 2048]

Prints p50 and p99 of the good requests. docs/serving.md has what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

NPY = "application/octet-stream"
BAD: Sequence[tuple[bytes, str]] = (
    (b"", NPY),
    (b"not an array", NPY),
    (b'{"clouds": [[[0, 0, NaN]]]}', "application/json"),
    (b'{"clouds": 7}', "application/json"),
    (b"<xml/>", "text/xml"),
    (b"--x\r\n", "multipart/form-data; boundary=y"),
)


@dataclass
class Load:
    """What many clients saw: seconds of the good requests, their answers by number of the cloud,
    statuses of the bad ones, and how often a place was waited for."""

    seconds: list[float] = field(default_factory=list)
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    waited: int = 0


class Service:
    """``sa3d serve`` as a process of its own."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        words = [sys.executable, "-m", "sa3d", "serve", str(folder), "--port", str(port), *options]
        self.process = subprocess.Popen(words, stdout=self._out, stderr=subprocess.PIPE, text=True)
        self.address = ""
        while not self.address.endswith("\n"):
            if self.process.poll() is not None:
                raise RuntimeError(self.process.communicate()[1])
            time.sleep(0.05)
            self._out.seek(0)
            self.address = self._out.read()
        self.address = self.address.strip()
        self.port = urlsplit(self.address).port

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit status, and what it said of errors."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said


@contextlib.contextmanager
def serving(folder: Path, *options: str, port: int = 0) -> Iterator[Service]:
    """The service, gone after the block."""
    service = Service(folder, *options, port=port)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.stop(signal.SIGKILL)


def ask(port: int, body: bytes, kind: str) -> tuple[int, dict[str, Any]]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request("POST", "/predict", body, {"Content-Type": kind})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def load(port: int, clouds: Sequence[np.ndarray], clients: int, requests: int) -> Load:
    """``clients`` at once, each with so many requests one after the other."""
    found, lock = Load(), threading.Lock()
    bodies = [npy(cloud) for cloud in clouds]

    def patiently(body: bytes, kind: str) -> tuple[int, dict[str, Any]]:
        while (answer := ask(port, body, kind))[0] == 503:
            with lock:
                found.waited += 1
            time.sleep(0.2)
        return answer

    def client(number: int) -> None:
        for step in range(requests):
            turn = number * requests + step
            if turn % 10 == 0:
                status, _ = patiently(*BAD[turn // 10 % len(BAD)])
                with lock:
                    found.refused.append(status)
                continue
            which = turn % len(bodies)
            began = time.perf_counter()
            status, answer = patiently(bodies[which], NPY)
            taken = time.perf_counter() - began
            with lock:
                found.seconds.append(taken)
                found.answers.append((which, {"status": status, **answer}))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, nargs="?", default=Path("sa3d/inference/boxed"))
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--points", type=int, default=2048)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(given.points, 3)).astype(np.float32) for _ in range(16)]
    with serving(given.model, "--threads", "1") as service:
        load(service.port or 0, clouds, 1, 10)  # the first answers are slower
        for clients in (1, 8, 32):
            began = time.perf_counter()
            found = load(service.port or 0, clouds, clients, given.requests)
            rate = len(found.seconds) / (time.perf_counter() - began)
            p50, p99 = np.quantile(found.seconds, (0.5, 0.99)) * 1000
            print(
                f"{clients} clients: {len(found.seconds)} good, {len(found.refused)} refused, "
                f"{found.waited} waited; p50 {p50:.0f} ms, p99 {p99:.0f} ms, {rate:.1f} a second",
                flush=True,
            )
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
