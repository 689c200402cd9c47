"""What the page of a flow run says of a run while it is made: how far it is, and the time left."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from flows import logs, tasks
from flows.executors.base import Event


def test_the_log_says_how_far_a_run_is_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    monkeypatch.setattr(logs, "PROGRESS_SECONDS", 0.02)
    monkeypatch.setattr(tasks, "get_run_logger", lambda: logging.getLogger("page"))
    caplog.set_level(logging.INFO, "page")
    ending, log = tasks.Ending(), tmp_path / "run" / "log.txt"
    log.parent.mkdir()
    ended: list[str] = []

    def follow() -> None:
        ended.append(str(tasks._followed("GPU 0", "run/log.txt", ending).type.value))

    page = threading.Thread(target=follow)
    page.start()
    log.write_text("$ sa3d pretrain\nepoch 3/40  1.2/s, 12:00 left\n")
    wait_for(caplog, "12:00 left")
    log.write_text("$ sa3d pretrain\nepoch 4/40  1.2/s, 11:40 left\n")
    wait_for(caplog, "11:40 left")
    time.sleep(0.1)  # the same line is not said again
    ending.tell(Event("a", "finished", "test/acc 0.5"))
    page.join(10)
    assert ended == ["COMPLETED"]
    assert caplog.messages == [
        "on GPU 0; log: run/log.txt",
        "epoch 3/40  1.2/s, 12:00 left",
        "epoch 4/40  1.2/s, 11:40 left",
    ]


def wait_for(caplog: pytest.LogCaptureFixture, words: str) -> None:
    end = time.monotonic() + 20
    while not any(words in message for message in caplog.messages):
        assert time.monotonic() < end, caplog.messages
        time.sleep(0.01)
