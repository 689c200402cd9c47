"""The journal: nothing lost on a kill, nothing doubled on resume."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sa3d.errors import UserError
from sa3d.tracking.journal import FILE, Journal, entries, read_journal


def test_history_is_read_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.metrics({"train/loss": 2.0, "train/lr": 0.1}, step=0)
    journal.metrics({"train/loss": 1.0}, step=1)
    journal.close("FINISHED")
    assert read_journal(tmp_path) == {
        "train/loss": [(0, 2.0), (1, 1.0)],
        "train/lr": [(0, 0.1)],
    }
    assert read_journal(tmp_path / FILE) == read_journal(tmp_path)


def test_resume_cuts_what_the_checkpoint_has_not_seen(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.params({"seed": 3})
    for step in range(5):
        first.metrics({"train/loss": float(step)}, step)
    again = Journal(tmp_path)
    again.resume(2)
    again.metrics({"train/loss": 30.0}, 3)
    assert read_journal(tmp_path)["train/loss"] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]
    assert [e["values"] for e in entries(again.path) if e["kind"] == "params"] == [{"seed": 3}]
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_a_torn_last_line_is_not_read_and_is_dropped_on_opening(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.metrics({"a": 1.0}, 0)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"kind": "metrics", "st')
    assert read_journal(tmp_path) == {"a": [(0, 1.0)]}
    again = Journal(tmp_path)
    again.metrics({"a": 2.0}, 1)
    assert read_journal(tmp_path) == {"a": [(0, 1.0), (1, 2.0)]}


def test_a_spoilt_line_is_named(tmp_path: Path) -> None:
    good = '{"kind": "tags", "values": {}}\n'
    for spoilt in ("spoilt", "[]", '{"step": 3}', ""):
        (tmp_path / FILE).write_text(f"{good}{spoilt}\n{good}")
        with pytest.raises(UserError, match=r"line 2 is damaged; take it out \(`(.*)`\)") as raised:
            read_journal(tmp_path)
        command = str(raised.value).split("`")[1]
        subprocess.run(command, shell=True, check=True)
        assert (tmp_path / FILE).read_text() == good * 2


def test_a_killed_process_loses_no_line(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "from sa3d.tracking.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for step in range(100): journal.metrics({'a': step}, step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(read_journal(tmp_path)["a"]) == 100


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to("/dev/full")
    journal = Journal(tmp_path)
    with pytest.raises(UserError, match=r"cannot write .*journal.jsonl: No space left"):
        journal.metrics({"a": 1.0}, 0)


@pytest.mark.parametrize("step", [0, 4, 5])
def test_a_step_that_does_not_increase_is_refused(tmp_path: Path, step: int) -> None:
    journal = Journal(tmp_path)
    journal.metrics({"train/loss": 1.0, "train/lr": 0.1}, 5)
    for again in (journal, Journal(tmp_path)):  # a new process too
        with pytest.raises(ValueError, match=rf"train/loss at step {step}, but step 5 is already"):
            again.metrics({"train/acc": 0.0, "train/loss": 2.0}, step)
        again.metrics({"val/acc": 0.5}, step + 10 * (again is not journal))  # another key is free
    assert read_journal(tmp_path)["train/loss"] == [(5, 1.0)]
    assert "train/acc" not in read_journal(tmp_path), "the refused call left nothing"


def test_resume_opens_the_steps_after_it_and_no_others(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in (1, 2, 3):
        journal.metrics({"train/loss": 0.0}, step)
    journal.resume(2)
    with pytest.raises(ValueError, match="step 2 is already recorded"):
        journal.metrics({"train/loss": 9.0}, 2)
    journal.metrics({"train/loss": 9.0}, 3)
    assert read_journal(tmp_path) == {"train/loss": [(1, 0.0), (2, 0.0), (3, 9.0)]}
    journal.resume(-1)
    journal.metrics({"train/loss": 7.0}, 0)
    assert read_journal(tmp_path) == {"train/loss": [(0, 7.0)]}


def test_named_trainings_have_steps_of_their_own_and_are_cut_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for training in ("", "fold-1", "fold-2"):
        for step in (1, 2, 3):
            journal.metrics({"train/loss": float(step)}, step, training)
    journal.resume(1, "fold-2")
    again = Journal(tmp_path)
    again.metrics({"train/loss": 20.0}, 2, "fold-2")
    again.resume(0)
    assert read_journal(tmp_path) == {
        "fold-1/train/loss": [(1, 1.0), (2, 2.0), (3, 3.0)],
        "fold-2/train/loss": [(1, 1.0), (2, 20.0)],
    }


def test_results_replace_earlier_ones_and_outlive_a_resume(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.results({"test/acc": 0.25, "test/other": 1.0}, 40)
    journal.results({"test/acc": 0.5}, 40)
    journal.results({"test/acc": 0.75}, 40, "fold-1")
    journal.resume(0)
    assert read_journal(tmp_path) == {
        "test/acc": [(40, 0.5)],
        "test/other": [(40, 1.0)],
        "fold-1/test/acc": [(40, 0.75)],
    }
