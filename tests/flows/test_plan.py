"""The plan: which steps, in which order, by which commands."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from flows import plan
from sa3d.config.loading import experiment_names, load_experiment, params_file
from sa3d.errors import DataError

PARAMS = params_file().resolve()


@pytest.mark.parametrize("name", experiment_names())
def test_children_read_exactly_the_settings_of_the_flow(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_experiment(name, overrides=["seed=7", "pretrain.weight_decay=0.5"])
    prepared(tmp_path, config.data.name, monkeypatch)
    settings = plan.settle(config)
    assert load_experiment(name, settings.params) == config
    assert settings.pipeline_id == plan.settle(config).pipeline_id
    other = load_experiment(name, PARAMS, overrides=["seed=8"])
    assert plan.settle(other).pipeline_id != settings.pipeline_id


def test_the_demo_compares_method_baseline_and_scratch() -> None:
    nodes = plan.nodes_of(load_experiment("demo", PARAMS))
    names = [node.name for node in nodes]
    assert names[:2] == ["pretrain-baseline", "pretrain-method"]
    needs = {node.name: node.needs for node in nodes}
    assert needs["pretrain-method"] == ("pretrain-baseline",)  # sa3df's knowledge teacher
    assert needs["register-method"] == needs["svm-method"] == ("pretrain-method",)
    assert needs["classify-scratch"] == ()
    assert len(names) == 4 + 2 * 3


def test_without_a_baseline_there_is_one_arm_less() -> None:
    nodes = plan.nodes_of(load_experiment("point-mae", PARAMS))
    assert {node.arm for node in nodes} == {"method", "scratch"}
    sa3d = plan.nodes_of(load_experiment("point-mae-sa3d", PARAMS))
    assert {node.name: node.needs for node in sa3d}["pretrain-method"] == ()


def test_commands_are_those_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_experiment("demo", PARAMS)
    prepared(tmp_path, "shapes", monkeypatch)
    settings = plan.settle(config)
    runs = {"pretrain-baseline": Path("/w/base"), "pretrain-method": Path("/w/meth")}
    nodes = {node.name: node for node in plan.nodes_of(config)}

    def tail(name: str) -> list[str]:
        words = plan.command(nodes[name], settings, Path("/w/out"), runs, threads=2)
        assert words[: len(plan.CHILD)] == plan.CHILD
        assert words[-1 - words[::-1].index("--threads") + 1] == "2"
        return words[words.index("--threads") + 2 :]

    teacher = ["--knowledge-teacher", "/w/base"]
    assert tail("pretrain-method") == ["--arm", "method", *teacher]
    assert tail("svm-baseline") == ["--from", "/w/base"]
    assert tail("classify-scratch") == ["--from", "scratch"]


def test_data_that_is_not_prepared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_experiment("demo", PARAMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SA3D_ROOT", str(tmp_path))
    with pytest.raises(DataError, match=r"shapes\.h5"):
        plan.settle(config)


def prepared(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root with a processed file of that name, which says nothing but its digest."""
    monkeypatch.delenv("SA3D_WORK", raising=False)
    monkeypatch.setenv("SA3D_ROOT", str(folder))
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text(PARAMS.read_text())
    (folder / "data" / "processed").mkdir(parents=True)
    with h5py.File(folder / "data" / "processed" / f"{name}.h5", "w") as file:
        file.attrs["digest"] = "d1"
