"""Frozen features are computed once for all runs that need the same ones."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from task_runs import context, do, run_of, tiny_clouds, with_model

from sa3d.config.experiment import ExperimentConfig
from sa3d.models.backbone import Backbone
from sa3d.runs.config import RunConfig
from sa3d.tasks.evaluation import frozen_encoder
from sa3d.tasks.svm import features as module
from sa3d.tasks.svm.features import features
from sa3d.utils import paths

pytestmark = pytest.mark.usefixtures("one_thread")


class Computed:
    """How many clouds went through an encoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clouds = 0
        real = Backbone.features

        def counted(backbone: Backbone, points):
            self.clouds += len(points)
            return real(backbone, points)

        monkeypatch.setattr(Backbone, "features", counted)

    def since(self) -> int:
        found, self.clouds = self.clouds, 0
        return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Computed:
    return Computed(monkeypatch)


def files() -> list[Path]:
    return sorted((paths.work() / module.FOLDER).glob("*.npz"))


def seeded(run: RunConfig, seed: int) -> RunConfig:
    return replace(run, spec=replace(run.spec, seed=seed))


def test_another_seed_or_grid_computes_nothing(
    trained: dict[str, Path],
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    computed: Computed,
) -> None:
    run = run_of(tiny_config, "svm")
    start = trained["sa3df"]
    first = do(run, context(tiny, tmp_path / "a", start=start))
    assert computed.since() == 96 + 32
    assert len(files()) == 2
    again = do(seeded(run, 7), context(tiny, tmp_path / "b", start=start))
    other = run_of(tiny_config, "svm", c_grid=(0.5,), official_c=1.0)
    do(other, context(tiny, tmp_path / "c", start=start))
    assert computed.since() == 0
    assert len(files()) == 2
    # with the same C the same classifier on the same features
    repeated = do(run, context(tiny, tmp_path / "d", start=start))
    assert repeated.metrics == first.metrics
    assert again.metrics["test/acc_official_c"] == first.metrics["test/acc_official_c"]
    assert not list((paths.work() / module.FOLDER).glob("*.tmp"))


def test_what_features_depend_on_asks_for_new_ones(
    trained: dict[str, Path],
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    computed: Computed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clouds = tiny_clouds(tiny)
    rows = np.arange(6)

    def asked(run: RunConfig, start: Path | None = None, clouds=clouds, rows=rows) -> int:
        where = context(tiny, tmp_path, start=start)
        found = features(frozen_encoder(run, where), clouds, rows, run, where, "features")
        assert found.shape == (len(rows), run.model.model_dump()["dim"])
        return computed.since()

    run = run_of(tiny_config, "svm")
    assert asked(run, trained["sa3df"]) == 6
    assert asked(run, trained["random-masks"]) == 6, "other weights"
    assert asked(run, trained["sa3df"]) == 0
    assert asked(run, trained["sa3df"], rows=np.arange(1, 7)) == 6
    assert asked(run, trained["sa3df"], clouds=replace(clouds, digest="0" * 64)) == 6
    assert asked(with_model(run, groups=16), trained["sa3df"]) == 6, "other patches"
    fewer = replace(run, data=run.data.model_copy(update={"points": 32}))
    assert asked(fewer, trained["sa3df"]) == 6
    kinds = [run_of(tiny_config, "svm", precision=each) for each in ("fp32", "bf16", "auto")]
    # `auto` is one of the two, and is there already
    assert sum(asked(kind, trained["sa3df"]) for kind in kinds) == 6
    monkeypatch.setattr(module, "code_digest", lambda *places: "changed")
    assert asked(run, trained["sa3df"]) == 6
    monkeypatch.undo()


def test_random_weights_are_told_apart_by_themselves(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path, computed: Computed
) -> None:
    run = run_of(tiny_config, "svm", "scratch")
    for place, (seed, expected) in enumerate([(1, 128), (2, 128), (1, 0)]):
        do(seeded(run, seed), context(tiny, tmp_path / str(place)))
        assert computed.since() == expected


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "foreign", "rows"])
def test_a_damaged_file_is_computed_again_and_said(
    damage: str,
    trained: dict[str, Path],
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    computed: Computed,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_of(tiny_config, "svm")
    where = context(tiny, tmp_path, start=trained["sa3df"])
    backbone, clouds, rows = frozen_encoder(run, where), tiny_clouds(tiny), np.arange(6)
    whole = features(backbone, clouds, rows, run, where, "features")
    assert capsys.readouterr().err == ""
    (file,) = files()
    data = bytearray(file.read_bytes())
    if damage == "torn":
        data = data[:-40]
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
    elif damage == "empty":
        data = bytearray()
    elif damage == "foreign":
        data = bytearray(b"something else")
    file.write_bytes(data)
    if damage == "rows":
        np.savez(file, features=whole[:5])
    computed.since()
    again = features(backbone, clouds, rows, run, where, "features")
    assert computed.since() == 6
    assert np.array_equal(again, whole)
    said = capsys.readouterr().err
    assert f"{file.name} is damaged (" in said
    assert said.count("\n") == 1
    assert np.array_equal(features(backbone, clouds, rows, run, where, "features"), whole)
    assert computed.since() == 0


def test_a_second_process_waits_and_reads(
    trained: dict[str, Path],
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    computed: Computed,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_of(tiny_config, "svm")
    where = context(tiny, tmp_path, start=trained["sa3df"])

    def ask() -> np.ndarray:
        backbone = frozen_encoder(run, where)
        return features(backbone, tiny_clouds(tiny), np.arange(6), run, where, "features")

    expected = ask()
    (file,) = files()
    data = file.read_bytes()
    file.unlink()
    computed.since()
    # the first process: it has the lock, and writes the file before it lets go
    holder = FileLock(file.with_suffix(".lock"))
    holder.acquire()
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(ask)
        said = ""
        while "another process is computing the same features; waiting" not in said:
            assert not second.done()
            said += capsys.readouterr().err
            time.sleep(0.01)
        file.write_bytes(data)
        holder.release()
        assert np.array_equal(second.result(60), expected)
    assert computed.since() == 0


def test_the_folder_is_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.zeros((100, 10), np.float32)
    names = [tmp_path / f"{name}.npz" for name in "abcd"]
    for age, path in enumerate(names[:3]):
        module._write(path, array)
        path.with_suffix(".lock").touch()
        os.utime(path, (1000 + age, 1000 + age))
    assert module._read(names[0], 100) is not None  # used: now the youngest
    size = names[0].stat().st_size
    monkeypatch.setattr(module, "MOST_BYTES", 2 * size)
    module._write(names[3], array)
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["a.npz", "d.npz"]
    assert sorted(path.name for path in tmp_path.glob("*.lock")) == ["a.lock"]
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    module._write(names[1], array)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["b.npz"], "the newest stays"
