"""What one part of an experiment takes over from another: recipes, merging, overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sa3d.config.experiment import Evaluation, ExperimentConfig
from sa3d.config.loading import load_experiment
from sa3d.config.resolve import completed, merge, overridden, with_recipes
from sa3d.errors import ConfigError
from sa3d.methods.sa3d.settings import SA3DConfig
from sa3d.methods.settings import MethodConfig
from sa3d.models.point_m2ae.settings import PointM2AEConfig

REAL = Path(__file__).parents[2] / "params.yaml"


def load(name: str = "demo", *overrides: str) -> ExperimentConfig:
    return load_experiment(name, REAL, overrides)


def method(config: ExperimentConfig, variant: str) -> MethodConfig:
    found = config.variants[variant]
    assert isinstance(found, MethodConfig)
    return found


def settings(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.settings.model_dump(mode="json")


# --- recipes ------------------------------------------------------------------------------


def test_a_recipe_stands_for_its_mapping_and_what_is_beside_it_wins() -> None:
    recipes = {"r": {"a": 1, "b": {"c": 2, "d": 3}, "list": [1, 2]}}
    assert with_recipes({"recipe": "r"}, recipes) == recipes["r"]
    assert with_recipes({"b": {"d": 4}, "recipe": "r", "list": [3]}, recipes) == {
        "a": 1,
        "b": {"c": 2, "d": 4},
        "list": [3],
    }


def test_recipes_may_use_others_at_any_depth_and_in_lists() -> None:
    recipes = {
        "inner": {"x": 1, "y": 1},
        "middle": {"recipe": "inner", "y": 2},
        "outer": {"deep": [{"recipe": "middle", "z": 3}]},
    }
    assert with_recipes({"recipe": "outer"}, recipes) == {"deep": [{"x": 1, "y": 2, "z": 3}]}
    assert with_recipes({"v": {"recipe": "middle"}}, recipes) == {"v": {"x": 1, "y": 2}}
    assert recipes["middle"] == {"recipe": "inner", "y": 2}, "nothing is changed in place"


def test_the_same_recipe_twice_is_no_circle() -> None:
    recipes = {"r": {"x": 1}, "two": {"a": {"recipe": "r"}, "b": {"recipe": "r"}}}
    assert with_recipes({"recipe": "two"}, recipes) == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        ({"one": {}}, r"^no recipe 'on' \(did you mean 'one'\?\); `recipes` has: one$"),
        ({}, "^no recipe 'on'; `recipes` has: none$"),
        ({"on": 3}, "^no recipe 'on'"),
        ({"on": {"recipe": "on"}}, "^recipes use each other: on -> on$"),
        (
            {"on": {"a": {"recipe": "b"}}, "b": {"c": [{"recipe": "on"}]}},
            "^recipes use each other: on -> b -> on$",
        ),
    ],
)
def test_recipes_that_cannot_be_used(recipes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_recipes({"recipe": "on"}, recipes)


def test_a_wrong_recipe_is_told_with_file_and_experiment(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("recipes: {one: {}}\nexperiments: {e: {model: {recipe: oen}}}")
    with pytest.raises(ConfigError, match=rf"^{path}: experiments\.e: no recipe 'oen' \(did you"):
        load_experiment("e", path)


# --- merging ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 3}}, {"a": 1, "b": {"c": 1, "d": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        # a component by its name alone
        ({"mask": "gc"}, {"mask": {"end_ratio": 1}}, {"mask": {"name": "gc", "end_ratio": 1}}),
        (
            {"mask": {"name": "gc", "end_ratio": 1}},
            {"mask": "random"},
            {"mask": {"name": "random"}},
        ),
        (
            {"mask": {"name": "gc", "end_ratio": 1}},
            {"mask": "gc"},
            {"mask": {"name": "gc", "end_ratio": 1}},
        ),
        ({"data": {"name": "a", "points": 9}}, {"data": "b"}, {"data": {"name": "b", "points": 9}}),
        # another backbone has other settings
        (
            {"model": {"backbone": "a", "dim": 9}},
            {"model": {"backbone": "b"}},
            {"model": {"backbone": "b"}},
        ),
        (
            {"model": {"backbone": "a", "dim": 9}},
            {"model": {"backbone": "a", "depth": 2}},
            {"model": {"backbone": "a", "dim": 9, "depth": 2}},
        ),
        ({"model": {"dim": 9}}, {"model": {"backbone": "b"}}, {"model": {"backbone": "b"}}),
        (
            {"model": {"dim": 9}},
            {"model": {"backbone": "point-mae"}},
            {"model": {"dim": 9, "backbone": "point-mae"}},
        ),
        # one count of masked patches replaces the other
        ({"mask_ratio": 0.6}, {"masked": 7}, {"masked": 7}),
        ({"masked": 7}, {"mask_ratio": 0.6}, {"mask_ratio": 0.6}),
        ({"mask_ratio": 0.6}, {"masked": None}, {"mask_ratio": 0.6, "masked": None}),
    ],
)
def test_merging(base: dict[str, Any], over: dict[str, Any], merged: dict[str, Any]) -> None:
    before = yaml.safe_dump([base, over])
    assert merge(base, over) == merged
    assert yaml.safe_dump([base, over]) == before, "its arguments stay as they were"


# --- completing ---------------------------------------------------------------------------

SHORT = {
    "seeds": [4, 5],
    "model": {"groups": 8, "group_size": 8},
    "pretrain": {"data": "x", "mask_ratio": 0.6, "lr": 0.1},
    "variants": {
        "a": {"method": "mae", "mask": "random", "lr": 0.2},
        "b": {"method": "mae", "mask": "block", "masked": 3},
        "c": {"checkpoint": "there"},
        "d": {"scratch": True},
    },
    "evaluate": [
        {"task": "svm"},
        {"task": "svm", "label": "l", "data": "y", "seeds": [1], "variants": ["d"]},
        {"task": "classify", "model": {"groups": 9}, "settings": {"lr": 1}},
    ],
}


def test_completing_fills_in_what_is_taken_over() -> None:
    found = completed(SHORT)
    assert found["pretrain"] == {"data": {"name": "x"}}
    assert found["variants"] == {
        "a": {"mask_ratio": 0.6, "lr": 0.2, "method": "mae", "mask": {"name": "random"}},
        "b": {"masked": 3, "lr": 0.1, "method": "mae", "mask": {"name": "block"}},
        "c": {"checkpoint": "there"},
        "d": {"scratch": True},
    }
    assert found["reference"] == "a"
    first, second, third = found["evaluate"]
    assert first == {
        "task": "svm",
        "seeds": [4, 5],
        "settings": {},
        "model": SHORT["model"],
        "data": {"name": "x"},
        "variants": ["a", "b", "c", "d"],
    }
    assert (second["data"], second["seeds"], second["variants"]) == ({"name": "y"}, [1], ["d"])
    assert third["model"] == {"groups": 9, "group_size": 8}
    assert completed(found) == found


def test_what_is_no_mapping_is_left_to_validation() -> None:
    for values in ({}, {"pretrain": 3, "variants": [], "evaluate": [3]}, {"variants": {"a": None}}):
        again = completed(completed(values))
        assert again == completed(values)


# --- overrides ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("0.001", 1e-3), ("1.0e-3", 1e-3), ("2", 2.0)]
)
def test_set_reads_numbers_as_people_write_them(text: str, value: float) -> None:
    config = load("demo", f"pretrain.lr={text}")
    assert [m.lr for m in config.methods.values()] == [value, value]


def test_set_null() -> None:
    assert method(load("demo", "pretrain.clip=null"), "sa3df").clip is None


def test_of_two_overrides_the_later_wins() -> None:
    assert load("demo", "seeds=[1]", "seeds=[2]").seeds == (2,)
    assert method(load("demo", "pretrain.mask_ratio=0.5", "pretrain.masked=5"), "sa3df").masked == 5


def test_what_a_variant_says_itself_wins_over_pretrain() -> None:
    config = load("point-mae-sa3df", "pretrain.epochs=77")
    assert method(config, "sa3df").epochs == 77
    assert method(config, "random-masks").epochs == 301


def test_an_exact_count_in_a_variant_replaces_the_shared_ratio() -> None:
    config = load("demo", "variants.random-masks.masked=7")
    assert method(config, "random-masks").masked_of(32) == 7
    assert method(config, "sa3df").masked_of(32) == 20


def test_a_variants_mask_can_be_changed_by_its_name_and_by_its_settings() -> None:
    mask = method(load("demo", "variants.sa3df.mask.end_ratio=0.25"), "sa3df").mask
    assert mask.model_dump() == {"name": "gc", "end_ratio": 0.25, "half_schedule": False}
    assert method(load("demo", "variants.sa3df.mask=block"), "sa3df").mask.name == "block"


def test_a_variant_can_be_added_and_is_evaluated() -> None:
    config = load("demo", "variants.plain={method: sa3d, mask: gc, gc_depth: 2}")
    found = method(config, "plain")
    assert isinstance(found, SA3DConfig)
    assert (found.gc_depth, found.lr, found.epochs) == (2, 0.001, 12)
    assert all("plain" in each.variants for each in config.evaluate)


def test_another_backbone_brings_its_own_settings() -> None:
    given = load("demo", "model.groups=[128, 64, 32]", "model.backbone=point-m2ae")
    wanted = PointM2AEConfig(groups=(128, 64, 32))
    assert given.model == wanted, "in whatever order they are given"
    assert all(each.model == wanted for each in given.evaluate)
    whole = load("demo", "model.groups=[128, 64, 32]", "model={backbone: point-m2ae}")
    spaced = load("demo", "model.groups=[128, 64, 32]", " model.backbone =point-m2ae")
    assert whole == spaced == given


def test_an_evaluation_is_addressed_by_number_task_or_label() -> None:
    def folds(*overrides: str) -> list[int | None]:
        return [settings(each).get("folds") for each in load("demo", *overrides).evaluate]

    assert folds("evaluate.svm.settings.folds=5") == [5, 5, None, 3, None]
    assert folds("evaluate.1.settings.folds=5") == [3, 5, None, 3, None]
    labelled = ("evaluate.1.label=noisy", "evaluate.noisy.settings.folds=4")
    assert folds(*labelled) == [3, 4, None, 3, None]
    classify = load("demo", "evaluate.classify.settings.epochs=99").evaluate[2]
    assert settings(classify)["epochs"] == 99
    assert settings(classify)["batch_size"] == 32, "the rest stays"


def test_a_whole_list_of_evaluations_can_be_given() -> None:
    config = load("demo", "evaluate=[{task: svm, data: shapes-noisy}]", "evaluate.0.data.points=99")
    (only,) = config.evaluate
    assert (only.task, only.data.name, only.data.points) == ("svm", "shapes-noisy", 99)
    assert load("demo", "evaluate=[]").evaluate == ()


def test_overrides_leave_what_they_are_given_alone() -> None:
    values = {"pretrain": {"lr": 1}, "evaluate": [{"task": "svm", "settings": {"folds": 2}}]}
    before = yaml.safe_dump(values)
    found = overridden(values, ["pretrain.lr=2", "evaluate.0.settings.folds=3", "new.key=4"])
    assert found == {
        "pretrain": {"lr": 2},
        "evaluate": [{"task": "svm", "settings": {"folds": 3}}],
        "new": {"key": 4},
    }
    assert yaml.safe_dump(values) == before
