"""What is said of a failed child begins with the cause; where its log is comes last, and its long
command line stands in the log alone."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from flows import logs
from flows.executors.child import Child, failure

LONG = [f"--set=pretrain.option_{number}=value" for number in range(200)]
REFUSED = "import sys; print('sa3d: no data set x; make it', file=sys.stderr); sys.exit(2)"
RAISED = "def f(): raise ValueError('weights of another model')\nf()"
KILLED = "import os, signal; print('epoch 7', flush=True); os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("code", "cause", "status"),
    [
        (REFUSED, "sa3d: no data set x; make it", 2),
        (RAISED, "ValueError: weights of another model", 1),
        (KILLED, "killed", -9),
    ],
    ids=["refused", "raised", "killed"],
)
def test_of_a_child(tmp_path: Path, code: str, cause: str, status: int) -> None:
    log = tmp_path / logs.FILE
    child = Child([sys.executable, "-c", code, *LONG], log, {})
    while child.poll() is None:
        time.sleep(0.02)
    assert child.poll() == status
    said = failure(status, log)
    assert said.startswith(cause)
    assert str(log) in said
    assert said.index(cause) < said.index(str(log))
    assert "option_" not in said
    assert log.read_text().startswith("$ ")
    assert "option_199" in log.read_text()
    assert len(said) < 400
