"""Settings: bounds, inheritance, overrides, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from sa3d import registry
from sa3d.config import loading
from sa3d.config.experiment import ExperimentConfig, Source
from sa3d.config.loading import load_experiment, load_source, require_data
from sa3d.errors import ConfigError
from sa3d.models.settings import PointM2AEConfig

ROOT = Path(__file__).parents[1]
REAL = ROOT / "params.yaml"


def load(name: str = "demo", *overrides: str) -> ExperimentConfig:
    return load_experiment(name, REAL, overrides)


@pytest.mark.parametrize("name", loading.experiment_names(REAL))
def test_every_experiment_of_the_project_is_valid(name: str) -> None:
    config = load(name)
    assert config.name == name
    assert 0 < config.pretrain.masked_of(config.model.num_tokens) < config.model.num_tokens


@pytest.mark.parametrize("name", loading.source_names(REAL))
def test_every_data_set_of_the_project_is_valid(name: str) -> None:
    assert load_source(name, REAL).points >= 64


def test_published_mask_counts() -> None:
    """SA3D floors the visible count, Point-MAE the masked one: 39 and 38 of 64."""
    config = load("point-mae-sa3df")
    assert config.model.groups == 64
    assert config.pretrain.masked_of(64) == 39
    assert config.stage("baseline").masked_of(64) == 38
    assert load("point-mae").pretrain.masked_of(64) == 38
    assert load("point-mae-sa3d").pretrain.masked_of(64) == 39


@pytest.mark.parametrize(("ratio", "masked"), [(0.75, 48), (0.5, 32), (0.9, 58)])
def test_ratios_that_divide_are_not_off_by_one(ratio: float, masked: int) -> None:
    sa3d = load("demo", f"pretrain.mask_ratio={ratio}", f"baseline.mask_ratio={ratio}")
    assert sa3d.pretrain.masked_of(64) == masked
    assert sa3d.stage("baseline").masked_of(64) == (57 if ratio == 0.9 else masked)


def test_published_recipe() -> None:
    stage = load("point-mae-sa3df").stage("method")
    assert (stage.epochs, stage.warmup_epochs, stage.lr) == (400, 40, 1e-3)
    assert (stage.betas, stage.clip, stage.gc_depth) == ((0.9, 0.95), 5.0, 12)
    assert (stage.feature_weight, stage.point_weight, stage.switch_epoch) == (13.889, 1000.0, 15)
    assert stage.point_term == "teacher_decoded_nograd"
    sa3d = load("point-mae-sa3d").stage("method")
    assert (sa3d.gc_depth, sa3d.point_term) == (4, "ground_truth_grad")


def test_another_backbone_brings_its_own_settings() -> None:
    small, demo = load("kicad-m2ae"), load("kicad")
    assert isinstance(small.model, PointM2AEConfig)
    assert small.model.radii == PointM2AEConfig().radii  # not of the experiment it extends
    assert small.pretrain.lr == demo.pretrain.lr
    assert small.stage("method").masked_of(64) == small.stage("baseline").masked_of(64) == 51
    given = load("demo", "model.groups=[128, 64, 32]", "model.backbone=point-m2ae").model
    assert given == PointM2AEConfig(groups=(128, 64, 32)), "in whatever order they are given"
    whole = load("demo", "model.groups=[128, 64, 32]", "model={backbone: point-m2ae}").model
    spaced = load("demo", "model.groups=[128, 64, 32]", " model.backbone =point-m2ae").model
    assert whole == spaced == given
    again = TypeAdapter(ExperimentConfig).validate_python(small.model_dump(mode="json"))
    assert again == small


def test_published_recipe_of_point_m2ae() -> None:
    config = load("point-m2ae-sa3df")
    method, baseline = config.stage("method"), config.stage("baseline")
    assert (method.batch_size, method.lr, method.epochs) == (128, 1e-3, 300)
    assert method.cosine_epochs == baseline.cosine_epochs == 400
    assert (method.clip, method.precision, method.gc_depth) == (5.0, "bf16", 12)
    assert (baseline.clip, baseline.precision, baseline.epochs) == (None, "fp32", 300)
    assert method.point_term == "ground_truth_grad"
    assert config.data.points == 2048
    assert load("point-m2ae-sa3d").stage("method").gc_depth == 4
    assert config.svm.official_c == 0.012
    plain = load("point-m2ae")
    share = plain.classify.label_smoothing / 40  # of each class, the true one's included
    assert (1 - 39 * share, share) == pytest.approx((0.7, 0.3 / 39), abs=1e-6)
    assert (plain.pretrain.method, plain.baseline, plain.pretrain.masked_of(64)) == (
        "mae",
        None,
        51,
    )


def test_extends_and_the_baselines_inheritance() -> None:
    demo, kicad = load("demo"), load("kicad")
    assert kicad.pretrain.lr == demo.pretrain.lr
    assert kicad.data.name == "kicad"
    assert kicad.baseline is not None
    assert kicad.baseline.epochs == kicad.pretrain.epochs
    assert (kicad.baseline.method, kicad.baseline.mask) == ("mae", "random")


def test_an_exact_count_in_the_baseline_replaces_the_inherited_ratio() -> None:
    config = load("demo", "baseline.masked=7")
    assert config.stage("baseline").masked_of(32) == 7
    assert config.pretrain.masked_of(32) == 20


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("0.001", 1e-3), ("1.0e-3", 1e-3), ("2", 2.0)]
)
def test_set_reads_numbers_as_people_write_them(text: str, value: float) -> None:
    assert load("demo", f"pretrain.lr={text}").pretrain.lr == value


def test_set_null() -> None:
    assert load("demo", "pretrain.clip=null").pretrain.clip is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["pretrain.mask_ration=0.5"], "unknown key experiments.demo.pretrain.mask_ration (did"),
        (["pretrain.mask_ration=0.5"], "did you mean 'mask_ratio'?"),
        (["pretain.lr=1"], "did you mean 'pretrain'?"),
        (["model.qwzx=1"], "known: "),
        (["pretrain.lr=-1"], "experiments.demo.pretrain.lr = -1: Input should be greater than 0"),
        (["pretrain.lr=fast"], "pretrain.lr = 'fast'"),
        (["pretrain.mask_ratio=1.0"], "pretrain.mask_ratio = 1.0: Input should be less than 1"),
        (
            ["pretrain.mask=gcc"],
            "experiments.demo.pretrain.mask = 'gcc': unknown mask strategy 'gcc' (did you mean "
            "'gc'?); known:",
        ),
        (
            ["classify.augment=rotate"],
            "classify.augment = 'rotate': unknown augmentation 'rotate' (did you mean 'rotate_y'?)",
        ),
        (["pretrain.betas=[0.9, 1.0]"], "pretrain.betas.1 = 1.0: Input should be less than 1"),
        (["pretrain.betas=[-0.1, 0.9]"], "pretrain.betas.0 = -0.1: Input should be greater"),
        (["pretrain.lr=.inf"], "pretrain.lr = inf: Input should be a finite number"),
        (["classify.weight_decay=.nan"], "classify.weight_decay = nan: Input should be a finite"),
        (["pretrain.masked=5"], "give exactly one of mask_ratio=0.6 and masked=5"),
        (["pretrain.mask_ratio=0.01"], "at least one must stay visible and one masked"),
        (["pretrain.warmup_epochs=99"], "warmup_epochs=99.0 leaves nothing of epochs="),
        (["pretrain.cosine_epochs=3"], "cosine_epochs=3 ends before epochs="),
        (["model.heads=5"], "dim=96 is not a multiple of heads=5"),
        (["model.groups=4096"], "`model` need clouds of 4096 points, data.points=512"),
        (["model.group_size=513"], "`model` need clouds of 513 points, data.points=512"),
        (["baseline.method=sa3d"], "baseline.method=sa3d must be mae"),
        (["baseline=null"], "method=sa3df needs `baseline`"),
        (["pretrain.method=mae"], "mask=gc needs a GC predictor"),
        (["pretrain.method=sa3d", "pretrain.point_term=teacher_decoded_grad"], "needs method=sa3"),
        (["classify.pooling=concat"], "model.backbone=point-mae pools by cls_max"),
        (
            ["model.backbone=point-mea"],
            "--set: experiments.demo.model.backbone = 'point-mea': unknown backbone 'point-mea' "
            "(did you mean 'point-mae'?)",
        ),
        (["model.backbone=null"], "experiments.demo.model.backbone = None: unknown backbone"),
        (["model.backbone=point-m2ae", "model.group_size=3"], "(did you mean 'group_sizes'?)"),
        (["model.backbone=point-m2ae", "model.heads=5"], "96 is no multiple of 5"),
        (
            ["model.backbone=point-m2ae", "model.groups=[64, 96, 32]"],
            "a scale of 64 patches cannot give 96 patches of 8",
        ),
        (
            ["model.backbone=point-m2ae", "pretrain.point_term=teacher_decoded_nograd"],
            "which model.backbone=point-m2ae has not; use ground_truth_grad",
        ),
        (["tasks=[svn]"], "tasks.0 = 'svn': unknown task 'svn' (did you mean 'svm'?)"),
        (["tasks=[pretrain]"], "unknown task 'pretrain'"),
        (["pretrain.lr"], "expected section.key=value"),
        (["=1"], "expected section.key=value"),
        (["pretrain.lr=[1"], "not a value YAML can read"),
    ],
)
def test_wrong_settings_are_named(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("demo", *overrides)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_mistake_of_set_is_said_once_and_not_blamed_on_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        load("demo", "pretrain.mask_ration=0.5")  # which the baseline would inherit
    said = str(caught.value)
    assert said.startswith("--set: unknown key")
    assert said.count("mask_ration") == 1
    with pytest.raises(ConfigError, match=r"^\S*loading.yaml: experiments.demo: "):
        load("demo", "model.groups=4096")  # two settings that do not go together


def test_data_that_nothing_makes_is_refused_with_what_there_is() -> None:
    require_data(load("demo"), REAL)
    with pytest.raises(ConfigError, match=r"data.name=shapenet55: nothing here makes .*kicad"):
        require_data(load("point-mae"), REAL)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no experiment 'dmeo' in .* \(did you mean 'demo'\?\)"):
        load("dmeo")
    with pytest.raises(ConfigError, match=r"no data set 'shape' in .* \(did you mean 'shapes'\?\)"):
        load_source("shape", REAL)


def test_a_source_with_another_sources_key() -> None:
    with pytest.raises(ConfigError, match="min_shapes"):
        load_source("shapes", REAL, ["min_shapes=3"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "holds list, not a mapping"),
        ("a: [", "cannot read"),
        ("other: 1", "has no mapping `experiments`"),
        ("experiments: {demo: {extends: demo}}", "extend each other"),
        ("experiments: {demo: {extends: nothing}}", "no experiment 'nothing'"),
        ("experiments: {demo: {}}", "data is missing"),
    ],
)
def test_an_unusable_file_is_one_message(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_experiment("demo", path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run from the project's root or give --params"):
        load_experiment("demo", tmp_path / "params.yaml")


def settings_below(kind: type[BaseModel]) -> set[type[BaseModel]]:
    found = {kind}
    for field in kind.model_fields.values():
        for inner in loading._models(field.annotation):
            found |= settings_below(inner)
    return found


def test_every_setting_says_what_it_is() -> None:
    backbones = [registry.load_at(entry.settings) for entry in registry.BACKBONES.values()]
    roots = [ExperimentConfig, *loading._models(Source), *backbones]
    kinds = set().union(*map(settings_below, roots))
    names = {kind.__name__ for kind in kinds}
    assert {"EmaConfig", "ClassifyConfig", "PointMAEConfig", "PointM2AEConfig"} <= names
    assert "KicadSource" in names
    silent = [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, field in kind.model_fields.items()
        if not field.description
    ]
    assert silent == []
    assert all(kind.__doc__ for kind in kinds)


def test_a_name_that_is_registered_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "probe", registry.Task("a:b", "Probe", "Probe."))
    assert load("demo", "tasks=[probe]").tasks == ("probe",)
    with pytest.raises(ValidationError, match="unknown task 'prob'"):
        TypeAdapter(ExperimentConfig).validate_python(load().model_dump() | {"tasks": ["prob"]})


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().pretrain.lr = 2.0  # type: ignore[misc]


def test_dotted_is_flat() -> None:
    flat = load().dotted()
    assert flat["pretrain.ema.start"] == 0.98
    assert flat["baseline.method"] == "mae"
    assert not any(isinstance(value, dict) for value in flat.values())
