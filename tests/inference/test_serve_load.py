"""The service as a process of its own: under load, killed, stopped."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import NPY, ask, load, npy, serving
from sa3d.inference.classes import ClassPredictor
from sa3d.inference.loading import load_model
from tests.small_models import saved

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """A process started by a shell in the background ignores Ctrl-C, and so would the service."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def clouds() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(30 + 7 * at, 3)).astype(np.float32) for at in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("classes"), "classifier", "point-mae")


def test_32_clients_with_every_tenth_request_wrong(folder: Path) -> None:
    model = load_model(folder)
    assert isinstance(model, ClassPredictor)
    wanted = [model.predict(cloud).probabilities[0].tolist() for cloud in clouds()]
    with serving(folder, "--threads", "1", "--max-waiting", "24") as service:
        found = load(service.port or 0, clouds(), clients=32, requests=20)
        assert len(found.refused) == 64
        assert set(found.refused) <= {415, 422}
        assert len(found.answers) == 576
        for which, answer in found.answers:
            assert answer["status"] == 200
            (cloud,) = answer["clouds"]
            # clouds that are answered in one batch may be summed in another order
            found_here = list(cloud["probabilities"].values())
            np.testing.assert_allclose(found_here, wanted[which], rtol=1e-5)
        status, said = service.stop()
    assert (status, said) == (143, "")


def test_killed_and_started_again_on_the_same_port(folder: Path) -> None:
    body = npy(clouds()[0])
    with serving(folder, "--threads", "1") as first:
        port = first.port or 0
        before = ask(port, body, NPY)
        assert before[0] == 200
        first.stop(signal.SIGKILL)
        with pytest.raises(ConnectionRefusedError):
            ask(port, body, NPY)
    with serving(folder, "--threads", "1", port=port):
        assert ask(port, body, NPY) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_was_taken_is_answered_before_it_stops(folder: Path, number: int, status: int) -> None:
    body = npy(clouds()[0])
    with serving(folder, "--threads", "1") as service:
        port = service.port or 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", NPY)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:50])
        until_told(port, "sa3d_waiting 1.0")
        stopped: list[tuple[int, str]] = []
        stopping = threading.Thread(target=lambda: stopped.append(service.stop(number)))
        stopping.start()
        time.sleep(0.5)
        connection.send(body[50:])
        assert connection.getresponse().status == 200
        connection.close()
        stopping.join()
        assert stopped == [(status, "")]


def until_told(port: int, line: str) -> None:
    """Wait until the service counts so."""
    for _ in range(400):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        if line in text:
            return
        time.sleep(0.05)
    pytest.fail(f"never told: {line}")


def test_a_client_that_hangs_up_is_counted_and_not_complained_of(folder: Path) -> None:
    with serving(folder, "--threads", "1") as service:
        port = service.port or 0
        with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
            raw.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + NPY.encode()
                + b"\r\nContent-Length: 1000\r\n\r\nx"
            )  # fmt: skip
            until_told(port, "sa3d_waiting 1.0")
        until_told(port, 'sa3d_requests_total{path="/predict",status="499"} 1.0')
        until_told(port, "sa3d_waiting 0.0")
        assert service.stop() == (143, "")


def test_a_body_without_an_end_is_refused_while_it_comes(folder: Path) -> None:
    with serving(folder, "--threads", "1", "--max-megabytes", "1") as service:
        with socket.create_connection(("127.0.0.1", service.port or 0), timeout=60) as raw:
            raw.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + NPY.encode()
                + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
            )  # fmt: skip
            part = b"10000\r\n" + bytes(0x10000) + b"\r\n"
            sent = 0
            with contextlib.suppress(OSError):  # of a connection that the service has closed
                while sent < 1000:  # 64 MiB, if nobody minds
                    raw.sendall(part)
                    sent += 1
            assert sent < 1000
        assert ask(service.port or 0, npy(clouds()[0]), NPY)[0] == 200
