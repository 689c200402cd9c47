"""What an experiment may be: variants, teachers, evaluations, and what goes together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from sa3d import registry
from sa3d.config.base import Frozen, flat
from sa3d.config.experiment import CheckpointVariant, ExperimentConfig, ScratchVariant
from sa3d.config.loading import load_experiment
from sa3d.errors import ConfigError
from sa3d.methods.sa3df.settings import SA3DFConfig
from sa3d.tasks.base import Metric, Task, TaskConfig

REAL = Path(__file__).parents[2] / "params.yaml"
LEAST: dict[str, Any] = {
    "model": {"groups": 8, "group_size": 8},
    "pretrain": {
        "data": {"name": "x", "points": 64},
        "mask_ratio": 0.6,
        "epochs": 2,
        "batch_size": 4,
        "lr": 0.1,
    },
    "variants": {"plain": {"method": "mae", "mask": "random"}},
}


def demo(*overrides: str) -> ExperimentConfig:
    return load_experiment("demo", REAL, overrides)


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Loads the smallest experiment with some of its sections replaced; None: left out."""

    def experiment(**sections: Any) -> ExperimentConfig:
        tree = {k: v for k, v in (LEAST | sections).items() if v is not None}
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump({"experiments": {"e": tree}}, sort_keys=False))
        return load_experiment("e", path)

    return experiment


# --- variants and teachers ----------------------------------------------------------------


def test_the_first_variant_is_the_reference(load: Any) -> None:
    config = load(variants={"b": {"scratch": True}, "a": {"checkpoint": "work/there"}})
    assert config.reference == "b"
    assert config.variants == {
        "b": ScratchVariant(scratch=True),
        "a": CheckpointVariant(checkpoint="work/there"),
    }


def test_a_checkpoint_may_say_whose_published_weights_it_holds(load: Any) -> None:
    there = {"checkpoint": "work/there", "published": "point-mae"}
    config = load(variants={"a": there, "b": {"scratch": True}})
    assert config.variants["a"] == CheckpointVariant(checkpoint="work/there", published="point-mae")
    with pytest.raises(ConfigError, match=r"published=point-mea: known are point-mae-sa3df, poi"):
        load(variants={"a": there | {"published": "point-mea"}, "b": {"scratch": True}})


def test_without_pre_training(load: Any) -> None:
    """Checkpoints and random weights alone; their evaluations say their own data."""
    variants = {"there": {"checkpoint": "work/there"}, "scratch": {"scratch": True}}
    evaluate = [{"task": "svm", "data": {"name": "y", "points": 32}}]
    config = load(pretrain=None, variants=variants, evaluate=evaluate)
    assert config.pretrain is None
    assert config.methods == {}
    assert config.datasets == ("y",)
    with pytest.raises(ConfigError, match=r"experiments\.e\.evaluate\.0\.data is missing"):
        load(pretrain=None, variants=variants, evaluate=[{"task": "svm"}])


def test_a_method_needs_the_data_of_pre_training(load: Any) -> None:
    whole = {**LEAST["pretrain"], "method": "mae", "mask": "random"}
    del whole["data"]
    with pytest.raises(ConfigError, match=r"variants\.a is pre-trained by method mae, but `pret"):
        load(pretrain=None, variants={"a": whole})


def test_without_evaluations(load: Any) -> None:
    config = load()
    assert config.evaluate == ()
    assert list(config.methods) == ["plain"]
    assert config.datasets == ("x",)


def test_data_that_no_variant_is_pre_trained_on_is_not_needed(load: Any) -> None:
    config = load(variants={"a": {"scratch": True}}, evaluate=[{"task": "svm", "data": "y"}])
    assert config.datasets == ("y",)


def test_a_teacher_comes_before_its_student(load: Any) -> None:
    def student(teacher: str) -> dict[str, Any]:
        return {"method": "sa3df", "mask": "gc", "teacher": teacher}

    config = load(variants={"c": student("b"), "b": student("a"), "a": LEAST["variants"]["plain"]})
    assert list(config.methods) == ["a", "b", "c"]
    assert config.teacher_of("c") == "b"
    assert config.teacher_of("a") is None


def test_a_checkpoint_may_be_a_teacher(load: Any) -> None:
    variants = {
        "a": {"method": "sa3df", "mask": "gc", "teacher": "b"},
        "b": {"checkpoint": "work/there"},
    }
    assert list(load(variants=variants).methods) == ["a"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["reference=sa3d"], "reference=sa3d: no such variant (did you mean 'sa3df'?); there are:"),
        (
            ["variants.sa3df.teacher=rondom-masks"],
            "variants.sa3df.teacher=rondom-masks: no such variant (did you mean 'random-masks'?)",
        ),
        (["variants.sa3df.teacher=scratch"], "teacher=scratch has random weights; name a variant"),
        (["variants.sa3df.teacher=sa3df"], "variants are each other's teachers: sa3df"),
        (
            ["variants.b={method: sa3df, mask: gc, teacher: sa3df}", "variants.sa3df.teacher=b"],
            "variants are each other's teachers: sa3df, b",
        ),
        (
            ["variants.random-masks.mask=gc"],
            "variants.random-masks.mask=gc needs a method that predicts scores",
        ),
        (["variants.random-masks.teacher=sa3df"], "unknown key experiments.demo.variants.random-m"),
        (["variants.a=null"], "variants.a = None: a variant has exactly one of `method`, `check"),
        (["variants.a=mae"], "variants.a = 'mae': a variant has exactly one of `method`"),
        (["variants.a={metod: mae}"], "variants.a: a variant has exactly one of `method`"),
        (["variants.a={scratch: true, method: mae}"], "variants.a: a variant has exactly one of"),
        (["variants.a={checkpoint: x, lr: 3}"], "variants.a.lr; known: checkpoint"),
        (["variants.a={checkpoint: 3}"], "variants.a.checkpoint = 3: Input should be a valid str"),
        (["variants.a={scratch: false}"], "variants.a.scratch = False: Input should be True"),
        (["variants.A={scratch: true}"], "'A': String should match pattern"),
        (["variants.a/b={scratch: true}"], "'a/b': String should match pattern"),
        (["variants.sa3df.mask_ratio=null"], "sa3df: give exactly one of mask_ratio=None and mas"),
        (
            ["variants.sa3df.masked=5", "variants.sa3df={mask_ratio: 0.5, masked: 5}"],
            "sa3df: give exactly one of mask_ratio=0.5 and masked=5; set the other to null",
        ),
        (["pretrain.mask_ratio=0.01"], "at least one must stay visible and one masked"),
        (["pretrain.masked=32"], "masks 32 of 32 patches; at least one must stay visible"),
        (["pretrain.warmup_epochs=99"], "variants.sa3df: warmup_epochs=99.0 leaves nothing of epo"),
        (["pretrain.cosine_epochs=3"], "cosine_epochs=3 ends before epochs=12; give 12 or more"),
        (["seeds=[1, 2, 1]"], "seeds has 1 more than once"),
    ],
)
def test_variants_that_do_not_go_together(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        demo(*overrides)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_depends_on_the_backbone_is_filled_in_once() -> None:
    """The default of point_term and of pooling; nothing asks for them later."""
    scales = ["model.backbone=point-m2ae", "model.groups=[128, 64, 32]"]
    for overrides, term, pooling in (
        ([], "teacher_decoded_nograd", "cls_max"),
        (scales, "ground_truth_grad", "sum"),
    ):
        config = demo(*overrides)
        sa3df = config.variants["sa3df"]
        assert isinstance(sa3df, SA3DFConfig)
        assert sa3df.point_term == term
        assert config.evaluate[2].settings.model_dump()["pooling"] == pooling
    with pytest.raises(ConfigError, match=r"variants\.sa3df: point_term=teacher_decoded_grad need"):
        demo(*scales, "variants.sa3df.point_term=teacher_decoded_grad")


# --- evaluations --------------------------------------------------------------------------


def test_an_evaluation_takes_over_what_it_does_not_say(load: Any) -> None:
    config = load(seeds=[3, 4], evaluate=[{"task": "svm"}])
    (found,) = config.evaluate
    assert found.data == config.pretrain.data
    assert found.model == config.model
    assert found.variants == ("plain",)
    assert found.seeds == (3, 4)
    assert found.settings == registry.task("svm").settings()
    assert found.name == "svm-x"


def test_what_an_evaluation_says_itself_wins(load: Any) -> None:
    own = {
        "task": "svm",
        "label": "few",
        "data": {"points": 32},
        "seeds": [9],
        "variants": ["plain"],
        "model": {"groups": 16},
        "settings": {"folds": 2},
    }
    variants = {**LEAST["variants"], "scratch": {"scratch": True}}
    (found,) = load(variants=variants, evaluate=[own]).evaluate
    assert (found.data.name, found.data.points) == ("x", 32), "the rest of the data stays"
    assert (found.seeds, found.variants, found.name) == ((9,), ("plain",), "svm-few-x")
    assert found.model.model_dump()["groups"] == 16
    assert found.model.model_dump()["group_size"] == 8


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["evaluate.svm.variants=[sa3d]"], "evaluate.0.variants=sa3d: no such variant (did you me"),
        (["evaluate.svm.variants=[]"], "evaluate.0.variants = []: Tuple should have at least 1"),
        (["evaluate.0.variants=[sa3df, sa3df]"], "evaluate.0.variants has sa3df more than once"),
        (["evaluate.0.seeds=[1, 1]"], "evaluate.0.seeds has 1 more than once"),
        (["evaluate.1.data.name=shapes"], "evaluate has svm-shapes more than once; give one of th"),
        (["evaluate.svm.model.dim=48"], "evaluate.0.model.dim=48 is not the experiment's 96: an e"),
        (["evaluate.svm.model.depth=2"], "an evaluation may change only group_size, groups"),
        (["evaluate.2.model.backbone=point-m2ae"], "backbone=point-m2ae is not the experiment's p"),
        (["evaluate.2.model.groups=999"], "evaluate.2.model need clouds of 999 points, evaluate.2"),
        (["evaluate.0.data.points=8"], "evaluate.0.model need clouds of 32 points, evaluate.0.dat"),
        (["model.group_size=513"], "`model` need clouds of 513 points, pretrain.data.points=512"),
        (
            ["evaluate.classify.settings.pooling=concat"],
            "model.backbone=point-mae pools by cls_max",
        ),
        (
            ["evaluate.classify.settings.warmup_epochs=10"],
            "evaluate.2.settings: warmup_epochs=10.0",
        ),
        (["evaluate=[{}]"], "experiments.demo.evaluate.0.task is missing"),
        (["evaluate=[3]"], "experiments.demo.evaluate.0 = 3: Input should be a valid dictionary"),
        (["evaluate=3"], "experiments.demo.evaluate = 3: Input should be a valid tuple"),
        (["model.heads=5"], "experiments.demo.model: dim=96 is not a multiple of heads=5"),
        (
            ["model.backbone=point-m2ae", "model.groups=[64, 96, 32]"],
            "a scale of 64 patches cannot give 96 patches of 8",
        ),
    ],
)
def test_evaluations_that_do_not_go_together(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        demo(*overrides)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_label_tells_two_evaluations_apart() -> None:
    config = demo("evaluate.1.data=shapes", "evaluate.1.label=again")
    assert [e.name for e in config.evaluate] == [
        "svm-shapes",
        "svm-again-shapes",
        "classify-shapes",
        "fewshot-5w10s-shapes",
        "segment-shapes",
    ]


def test_names_that_only_read_alike_once_joined_are_refused(load: Any) -> None:
    """`svm` on `y`, variant `z-a`, and `svm` on `y-z`, variant `a`, would be `svm-y-z-a`."""
    variants = {"a": {"scratch": True}, "z-a": {"scratch": True}}
    evaluate = [{"task": "svm", "data": "y"}, {"task": "svm", "data": "y-z"}]
    with pytest.raises(ConfigError, match=r"evaluate has svm-y-z-a more than once; give one of"):
        load(variants=variants, evaluate=evaluate)
    evaluate[1]["label"] = "two"
    assert len(load(variants=variants, evaluate=evaluate).evaluate) == 2


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        ([], "groups", 64),
        ([], "group_size", 16),
        (["model.backbone=point-m2ae", "model.groups=[128, 64, 32]"], "groups", [96, 48, 32]),
        (["model.backbone=point-m2ae", "model.groups=[128, 64, 32]"], "radii", [0.1, 0.2, 0.3]),
    ],
)
def test_an_evaluation_may_group_the_points_otherwise(
    overrides: list[str], key: str, value: object
) -> None:
    config = demo(*overrides, f"evaluate.classify.model.{key}={value}")
    model = config.evaluate[2].model.model_dump(mode="json")
    assert model[key] == value
    assert model == config.model.model_dump(mode="json") | {key: value}
    assert config.evaluate[0].model == config.model


def test_a_task_that_is_registered_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="unknown task 'probe'"):
        demo("evaluate=[{task: probe}]")
    task = Task("a:b", "Probe", "Probe.", TaskConfig, Metric("test/x", "x"))
    monkeypatch.setitem(registry.TASKS, "probe", "probes:TASK")
    real = registry.load_at
    monkeypatch.setattr(
        registry, "load_at", lambda where: task if where == "probes:TASK" else real(where)
    )
    assert demo("evaluate=[{task: probe}]").evaluate[0].settings == TaskConfig()


# --- all settings -------------------------------------------------------------------------


def settings_classes() -> set[type[BaseModel]]:
    """Every settings class that can be reached from the registries and from an experiment."""
    tables = (registry.BACKBONES, registry.METHODS, registry.MASKS, registry.SOURCES)
    waiting: list[Any] = [registry.load_at(e.settings) for table in tables for e in table.values()]
    waiting += [registry.task(name).settings for name in registry.TASKS]
    waiting += [ExperimentConfig, CheckpointVariant, ScratchVariant]
    found: set[type[BaseModel]] = set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, type) and issubclass(item, BaseModel):
            if item not in found:
                found.add(item)
                waiting += [field.annotation for field in item.model_fields.values()]
        else:
            waiting += getattr(item, "__args__", ())
    return found


def test_every_setting_says_what_it_is() -> None:
    kinds = settings_classes()
    assert {kind.__name__ for kind in kinds} >= {
        "EmaConfig",
        "ClassifyConfig",
        "SvmConfig",
        "PointMAEConfig",
        "PointM2AEConfig",
        "GeometricMaskConfig",
        "SA3DFConfig",
        "KicadSource",
        "DataConfig",
        "Evaluation",
        "PretrainConfig",
    }
    silent = [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, field in kind.model_fields.items()
        if not field.description
    ]
    assert silent == []
    assert all(kind.__doc__ for kind in kinds)


def test_every_setting_is_frozen_and_refuses_what_it_does_not_know() -> None:
    for kind in settings_classes():
        assert issubclass(kind, Frozen), kind
        assert kind.model_config["frozen"], kind
        assert kind.model_config["extra"] == "forbid", kind


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        demo().reference = "scratch"  # type: ignore[misc]


def test_plain_values_read_again_are_the_same_settings() -> None:
    config = demo("variants.there={checkpoint: work/there}", "evaluate.classify.model.groups=64")
    again = TypeAdapter(ExperimentConfig).validate_python(config.model_dump(mode="json"))
    assert again == config


def test_flat() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": [2]}, "e": None}) == {"a.b.c": 1, "a.d": [2], "e": None}
    found = flat(demo().model_dump(mode="json"))
    assert found["variants.sa3df.ema.start"] == 0.98
    assert not any(isinstance(value, dict) for value in found.values())
