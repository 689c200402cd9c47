"""The plan: which nodes, in which order, by which commands."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import yaml

from flows import settings
from flows.forms.narrow import only
from flows.plan import Plan, plan
from flows.settings import CHILD, command, params_text, settle
from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import experiment_names, load_experiment, params_file
from sa3d.config.obtain import ABSENT_FILE
from sa3d.errors import AbsentDataError, ConfigError, DataError
from sa3d.runs.config import choose, runs_of
from sa3d.runs.fingerprint import locate
from sa3d.utils.layout import FORMAT, VERSION

PARAMS = params_file().resolve()
NAMES = experiment_names()


@pytest.fixture(autouse=True)
def data_without_clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data sets here have a digest and nothing else: tasks find nothing that they need."""
    monkeypatch.setattr(settings, "check_data", lambda runs: None)


@pytest.mark.parametrize("name", NAMES)
def test_children_read_exactly_the_settings_of_the_flow(name: str, tmp_path: Path) -> None:
    config = load_experiment(name, PARAMS, ["seeds=[7]", "pretrain.weight_decay=0.5"])
    written = tmp_path / "params.yaml"
    written.write_text(params_text(config))
    again = load_experiment(name, written)
    assert again == config
    assert [run.deciding() for run in runs_of(again)] == [run.deciding() for run in runs_of(config)]


def test_the_pipeline_is_known_by_settings_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_experiment("demo", PARAMS)
    prepared(tmp_path, config, monkeypatch)
    settings = settle(config)
    assert settings.digests == {
        "shapes": "digest of shapes",
        "shapes-noisy": "digest of shapes-noisy",
    }
    assert load_experiment("demo", settings.params["demo"]) == config
    assert settle(config).pipeline_id == settings.pipeline_id
    other = load_experiment("demo", PARAMS, overrides=["seeds=[8]"])
    assert settle(other).pipeline_id != settings.pipeline_id


def needs_of(steps: Plan) -> dict[str, tuple[str, ...]]:
    return {node.name: node.needs for node in steps.nodes}


def test_the_demo_pre_trains_registers_and_evaluates_every_variant() -> None:
    steps = plan(load_experiment("demo", PARAMS))
    names = [node.name for node in steps.nodes]
    assert names[:4] == [
        "pretrain-shapes-random-masks-s0",
        "pretrain-shapes-sa3df-s0",
        "register-random-masks-s0",
        "register-sa3df-s0",
    ]
    assert [node.kind for node in steps.nodes[:4]] == ["pretrain"] * 2 + ["register"] * 2
    assert {node.kind for node in steps.nodes[4:]} == {"evaluate"}
    needs = needs_of(steps)
    assert needs["pretrain-shapes-random-masks-s0"] == ()
    # the teacher that sa3df distils
    assert needs["pretrain-shapes-sa3df-s0"] == ("pretrain-shapes-random-masks-s0",)
    for name in ("register-sa3df-s0", "svm-shapes-sa3df-s1", "svm-shapes-noisy-sa3df-s0"):
        assert needs[name] == ("pretrain-shapes-sa3df-s0",)
    assert needs["classify-shapes-scratch-s0"] == ()
    assert len(names) == 4 + 3 * (2 + 1 + 1 + 3 + 1)
    assert "register-sa3df-s0" in steps.leaves
    assert "pretrain-shapes-sa3df-s0" not in steps.leaves
    assert ("pretrain-shapes-random-masks-s0", "pretrain-shapes-sa3df-s0") in steps.edges


@pytest.mark.parametrize("name", NAMES)
def test_every_node_comes_after_what_it_needs_and_each_run_is_a_node(name: str) -> None:
    config = load_experiment(name, PARAMS, overrides=["seeds=[0,5]"])
    steps = plan(config)
    seen: set[str] = set()
    for node in steps.nodes:
        assert set(node.needs) <= seen
        seen.add(node.name)
    runs = [node.run for node in steps.nodes if node.kind != "register"]
    assert sorted(run.spec.name for run in runs) == sorted(r.spec.name for r in runs_of(config))
    registered = [node.run.spec.name for node in steps.nodes if node.kind == "register"]
    assert registered == [r.spec.name for r in runs_of(config) if r.spec.task == "pretrain"]


def cell(name: str, *overrides: str) -> ExperimentConfig:
    """The demo without fine-tuning, under another name."""
    config = load_experiment("demo", PARAMS, overrides)
    return only(config, ["sa3df"], tasks=["svm"], name=name)


def test_experiments_of_one_plan_share_what_is_the_same() -> None:
    one = cell("one")
    two = cell("two", "variants.sa3df.mask.end_ratio=0.9")
    three = cell("three", "evaluate.svm.settings.folds=4")
    steps = plan(one, two, three, register=False)
    needs = needs_of(steps)
    teacher = "pretrain-shapes-random-masks-s0"  # nothing of it differs
    assert steps.by_name[teacher].experiments == ("one", "two", "three")
    pretrained = "pretrain-shapes-sa3df-s0"
    assert needs[f"one/{pretrained}"] == needs[f"two/{pretrained}"] == (teacher,)
    assert steps.by_name[f"one/{pretrained}"].experiments == ("one", "three")
    assert f"three/{pretrained}" not in needs
    svm = "svm-shapes-sa3df-s0"
    for name, start in (("one", "one"), ("two", "two"), ("three", "one")):
        node = steps.by_name[f"{name}/{svm}"]
        assert node.needs == (f"{start}/{pretrained}",)
        assert node.local == node.run.spec.name == svm
        assert node.needed(node.run.spec.needs[0]) == f"{start}/{pretrained}"
        assert node.run.experiment == name
    assert len(steps.nodes) == 1 + 2 + 3 * 3
    order = [node.name for node in steps.nodes]
    assert all(order.index(a) < order.index(b) for a, b in steps.edges)


def test_one_experiment_alone_has_plain_names() -> None:
    for config in (cell("one"), load_experiment("demo", PARAMS)):
        steps = plan(config)
        assert [node.name for node in steps.nodes] == [node.local for node in steps.nodes]
        assert {node.experiments for node in steps.nodes} == {(config.name,)}


def test_children_of_several_experiments_read_each_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [cell("one"), cell("two", "evaluate.svm.settings.folds=4")]
    prepared(tmp_path, load_experiment("demo", PARAMS), monkeypatch)
    settings = settle(*configs, name="both")
    assert settings.folder.name.startswith("experiment-both-")
    for config in configs:
        assert load_experiment(config.name, settings.params[config.name]) == config
        assert experiment_names(settings.params[config.name]) == [config.name]  # and reads no other
    steps = plan(*configs, register=False)
    model = exported(tmp_path / "model")
    for node in steps.nodes:
        if node.kind == "evaluate":
            words = command(locate(node.run, start=model), settings)
            assert words[words.index("-e") + 1] == node.run.experiment
            own = str(settings.params[node.run.experiment])
            assert words[words.index("--params") + 1] == own


CLASH = """
experiments:
  clash:
    model: {groups: 8, group_size: 8, dim: 24, depth: 2, heads: 2, decoder_depth: 1}
    variants: {scratch: {scratch: true}, noisy-scratch: {scratch: true}}
    reference: scratch
    evaluate:
      - {task: svm, data: {name: shapes, points: 64}, variants: [noisy-scratch]}
      - {task: svm, data: {name: shapes-noisy, points: 64}, variants: [scratch]}
"""


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(CLASH)
    with pytest.raises(ConfigError, match="svm-shapes-noisy-scratch more than once"):
        load_experiment("clash", tmp_path / "params.yaml")


def test_commands_are_those_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_experiment("demo", PARAMS)
    prepared(tmp_path, config, monkeypatch)
    settings = settle(config)
    models = {name: exported(tmp_path / name) for name in ("base", "student")}
    by_name = plan(config).by_name

    def tail(name: str, start: str | None = None, teacher: str | None = None) -> list[str]:
        located = locate(
            by_name[name].run,
            start=start and models[start],
            teacher=teacher and models[teacher],
        )
        words = command(located, settings)
        begin = [
            *CHILD,
            by_name[name].run.spec.task,
            "-e",
            "demo",
            "--params",
            str(settings.params["demo"]),
        ]
        assert words[: len(begin)] == begin
        assert words[-2:] == ["--out", str(tmp_path / "work" / f"{name}-{located.fingerprint}")]
        return words[len(begin) : -2]

    student = ["--variant", "sa3df", "--seed", "0", "--teacher", str(models["base"])]
    assert tail("pretrain-shapes-sa3df-s0", teacher="base") == student
    data = ["--data", "shapes-noisy", "--label", "", "--seed", "0"]
    assert tail("svm-shapes-noisy-sa3df-s0", start="student") == [
        *("--variant", "sa3df"),
        *data,
        *("--from", str(models["student"])),
    ]
    # no --from: it is refused with random weights
    assert tail("svm-shapes-noisy-scratch-s0") == ["--variant", "scratch", *data]


LABELS = """
experiments:
  labels:
    model: {groups: 8, group_size: 8, dim: 24, depth: 2, heads: 2, decoder_depth: 1}
    variants: {scratch: {scratch: true}, other: {scratch: true}}
    reference: scratch
    evaluate:
      - {task: svm, label: fine, data: {name: shapes, points: 64}, settings: {folds: 5}}
      - {task: svm, data: {name: shapes, points: 64}, seeds: [1, 2]}
"""


def test_the_options_of_a_child_name_exactly_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels.yaml").write_text(LABELS)
    config = load_experiment("labels", tmp_path / "labels.yaml")
    prepared(tmp_path, config, monkeypatch)
    settings = settle(config)
    for node in plan(config).nodes:
        located = locate(node.run)
        words = command(located, settings)[len(CHILD) :]
        given = dict(zip(words[1::2], words[2::2], strict=True))
        found = choose(
            load_experiment(given["-e"], Path(given["--params"])),
            words[0],
            variant=given["--variant"],
            data=given["--data"],
            label=given["--label"],
            seed=int(given["--seed"]),
        )
        assert found == node.run
        assert locate(found).fingerprint == located.fingerprint


def test_data_that_is_not_prepared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_experiment("demo", PARAMS)
    prepared(tmp_path, config, monkeypatch)
    (tmp_path / "data" / "processed" / "shapes-noisy.h5").unlink()
    with pytest.raises(DataError, match=r"shapes-noisy\.h5"):
        settle(config)


def test_absent_data_are_told_apart_from_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_experiment("demo", PARAMS)
    prepared(tmp_path, config, monkeypatch)
    absent(tmp_path, "shapes-noisy")
    settings = settle(config)
    assert settings.digests == {"shapes": "digest of shapes"}
    assert list(settings.absent) == ["shapes-noisy"]
    assert "no raw data" in settings.absent["shapes-noisy"]
    absent(tmp_path, "shapes")  # that of pre-training
    with pytest.raises(AbsentDataError, match="data set shapes is absent"):
        settle(config)


def test_an_experiment_of_which_nothing_would_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is pre-trained here, and all that is evaluated is absent."""
    (tmp_path / "settings.yaml").write_text(
        "experiments: {e: {model: {backbone: point-mae}, variants: {scratch: {scratch: true}}, "
        "reference: scratch, evaluate: [{task: svm, data: one}, {task: svm, data: two}]}}\n"
    )
    config = load_experiment("e", tmp_path / "settings.yaml")
    prepared(tmp_path, config, monkeypatch)
    absent(tmp_path, "one")
    assert list(settle(config).absent) == ["one"]
    absent(tmp_path, "two")
    with pytest.raises(AbsentDataError, match=r"data set one is absent.*data set two is absent"):
        settle(config)


def absent(folder: Path, name: str) -> None:
    """An absence in place of a processed file."""
    path = folder / "data" / "processed" / f"{name}.h5"
    path.write_bytes(ABSENT_FILE)
    path.with_suffix(".json").write_text('{"absent": "no raw data in data/raw/x"}')


def prepared(folder: Path, config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root with the processed files of an experiment, which say nothing but their digest."""
    monkeypatch.delenv("SA3D_WORK", raising=False)
    monkeypatch.setenv("SA3D_ROOT", str(folder))
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump({"experiments": {}}))
    (folder / "data" / "processed").mkdir(parents=True)
    for name in config.datasets:
        with h5py.File(folder / "data" / "processed" / f"{name}.h5", "w") as file:
            file.attrs["digest"] = f"digest of {name}"
            file.attrs["format"], file.attrs["version"] = FORMAT, VERSION


def exported(folder: Path) -> Path:
    """A folder that passes for an exported model."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "model.json").write_text(f'{{"sha256": "{folder.name}"}}')
    return folder
