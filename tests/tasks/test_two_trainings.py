"""Several trainings in one run folder: whole in the journal and in MLflow, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import two_trainings
from task_runs import context, run_of, tiny_clouds

from sa3d.config.experiment import ExperimentConfig
from sa3d.tasks.classify.task import ClassifyConfig
from sa3d.tasks.training import trainer_of
from sa3d.tracking import mlflow_store, mlflow_sync
from sa3d.tracking.journal import read_journal

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def store(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An MLflow store of the test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def in_mlflow(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """All points of all metrics that the store has."""
    found = mlflow_sync.run_of(run_dir)
    assert found is not None
    client = mlflow_store.client(found.uri)
    history = partial(client.get_metric_history, found.run_id)
    return {
        key: sorted((point.step, point.value) for point in history(key))
        for key in client.get_run(found.run_id).data.metrics
    }


def curves(of: dict[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """Without the speed and the waiting, which differ between runs."""
    timed = ("train/samples_per_second", "train/data_wait")
    return {key: points for key, points in of.items() if not key.endswith(timed)}


@pytest.mark.slow
def test_both_reach_mlflow_whole_also_when_the_second_was_killed(tiny: Path, store: Path) -> None:
    two_trainings.train(tiny, store / "whole")
    expected = curves(read_journal(store / "whole"))
    for name in two_trainings.NAMES:
        steps = [step for step, _ in expected[f"{name}/train/loss"]]
        assert len(steps) == two_trainings.EPOCHS
        assert steps[0] == steps[-1] / two_trainings.EPOCHS, "each begins at its own step 0"
    assert curves(in_mlflow(store / "whole")) == expected
    assert expected["fold-2/test/acc"] == [(steps[-1], 1.0)]

    run_dir = store / "killed"
    killed = subprocess.run(
        [sys.executable, two_trainings.__file__, str(tiny), str(run_dir), "2"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert (run_dir / "last-fold-1.pt").is_file()
    before = read_journal(run_dir)
    assert before["fold-2/train/loss"] == expected["fold-2/train/loss"][:3]  # of 4 epochs
    first = (run_dir / "last-fold-1.pt").read_bytes()

    two_trainings.train(tiny, run_dir)
    assert curves(read_journal(run_dir)) == expected
    assert (
        read_journal(run_dir)["fold-1/train/samples_per_second"]
        == (before["fold-1/train/samples_per_second"])
    ), "the first training was not repeated"
    assert (run_dir / "last-fold-1.pt").read_bytes() == first
    assert curves(in_mlflow(run_dir)) == expected


@pytest.mark.parametrize("name", ["a/b", "..", "fold 1", "-x"])
def test_a_name_that_is_no_file_name_is_refused(
    name: str, tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run = run_of(tiny_config, "classify", "scratch")
    assert isinstance(run.settings, ClassifyConfig)
    clouds = tiny_clouds(tiny)
    with pytest.raises(ValueError, match="use letters, digits"):
        trainer_of(
            two_trainings.Mean(),
            run,
            run.settings,
            context(tiny, tmp_path),
            clouds,
            clouds.indices(0),
            "random",
            training=name,
        )
