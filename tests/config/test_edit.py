"""Entries added to a settings file, and an experiment moved to other data."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from sa3d.config.edit import dumped, with_entry
from sa3d.config.like import Like, NewData, experiment_like
from sa3d.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
TEXT = """\
# what this is
datasets:
  # the first
  one:
    source: shapes   # generated

# between
recipes:
  r:
    text: |
      some
      lines
experiments:
  e:
    seeds:
    - 0
    - 1
"""


def test_nothing_that_is_there_changes() -> None:
    text = with_entry(TEXT, "datasets", "two", {"source": "folder", "formats": ["ply"]})
    at = TEXT.index("\n# between")
    added = "  two:\n    source: folder\n    formats:\n    - ply\n"
    assert text == TEXT[:at] + added + TEXT[at:]
    end = with_entry(TEXT, "experiments", "f", {"seeds": [2]}, gap=True)
    assert end == TEXT + "\n  f:\n    seeds:\n    - 2\n"
    inside = with_entry(TEXT, "recipes", "s", {"a": "1"})
    assert yaml.safe_load(inside)["recipes"] == {"r": {"text": "some\nlines\n"}, "s": {"a": "1"}}
    assert with_entry(TEXT.rstrip("\n"), "experiments", "f", {"a": 1}) == TEXT + "  f:\n    a: 1\n"


def test_the_project_s_own_file_stays_as_dvc_writes_it() -> None:
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    text = with_entry(text, "datasets", "mine", {"source": "folder", "root": "data/raw/mine"})
    text = with_entry(text, "experiments", "mine", yaml.safe_load(text)["experiments"]["demo"])
    writer = YAML()
    writer.default_flow_style = False
    stream = io.StringIO()
    writer.dump(writer.load(text), stream)
    assert stream.getvalue() == text


@pytest.mark.parametrize("text", ["datasets: {}\n", "datasets: {a: {source: x}}\n", "other: 1\n"])
def test_a_file_that_no_line_can_be_added_to(text: str) -> None:
    with pytest.raises(ConfigError, match=r"add there by hand:\nb:\n  source: folder"):
        with_entry(text, "datasets", "b", {"source": "folder"})


def test_text_that_yaml_would_take_for_something_else_is_quoted() -> None:
    assert yaml.safe_load(dumped({"a": {"root": "123", "x": "yes: no"}})) == {
        "a": {"root": "123", "x": "yes: no"}
    }


def test_what_stands_twice_is_written_twice() -> None:
    shared = {"name": "shapes"}
    assert dumped({"a": shared, "b": shared}) == "a:\n  name: shapes\nb:\n  name: shapes\n"


TREE: dict[str, Any] = {
    "recipes": {
        "tune": {"task": "classify", "settings": {"epochs": 3, "batch_size": 32}},
        "wide": {"method": "mae", "batch_size": 256},
        "all": {"pretrain": {"data": {"name": "shapes", "points": 2048}, "batch_size": 64}},
    },
    "experiments": {
        "plain": {
            "seeds": [0],
            "pretrain": {"data": {"name": "shapes", "points": 512}, "epochs": 2, "batch_size": 64},
            "evaluate": [
                {"task": "svm"},
                {"task": "svm", "data": {"name": "noisy"}},
                {"task": "svm", "label": "more", "data": {"name": "noisy", "points": 4096}},
                {"recipe": "tune", "settings": {"epochs": 1}},
            ],
            "variants": {"a": {"recipe": "wide"}, "scratch": {"scratch": True}},
            "reference": "a",
        },
        "by-recipe": {"recipe": "all", "pretrain": {"epochs": 1}, "reference": "a"},
        "none": {"variants": {"scratch": {"scratch": True}}, "reference": "scratch"},
    },
}


def like(name: str, *, classes: int = 3, points: int = 8192, clouds: int = 10_000) -> Like:
    train = (clouds - classes + 1, *(1,) * (classes - 1))
    return experiment_like(TREE, name, NewData("mine", train, train, points, parts=True))


def test_an_experiment_on_other_data() -> None:
    values, notes = like("plain")
    assert values["pretrain"] == {
        "data": {"name": "mine", "points": 512}, "epochs": 2, "batch_size": 64,
    }  # fmt: skip
    assert values["evaluate"] == [
        {"task": "svm"},
        {"task": "svm", "label": "more", "data": {"name": "mine", "points": 4096}},
        {"recipe": "tune", "settings": {"epochs": 1}},
    ]
    assert values["variants"] == TREE["experiments"]["plain"]["variants"]
    assert notes == ["svm on noisy is left out: it would be done twice"]
    assert TREE["experiments"]["plain"]["pretrain"]["data"]["name"] == "shapes"
    assert like("by-recipe").values["pretrain"] == {"epochs": 1, "data": {"name": "mine"}}


def test_a_small_data_set_gets_smaller_batches_and_clouds() -> None:
    values, notes = like("plain", points=300, clouds=57)
    assert values["pretrain"]["data"] == {"name": "mine", "points": 300}
    assert values["pretrain"]["batch_size"] == 16
    assert values["variants"]["a"] == {"recipe": "wide", "batch_size": 16}
    assert values["evaluate"][1]["data"] == {"name": "mine", "points": 300}
    assert values["evaluate"][2]["settings"] == {"epochs": 1, "batch_size": 16}
    assert "points 512 became 300: the smallest cloud has no more" in notes
    assert "pretrain: batch_size 64 became 16: there are 57 clouds to train on" in notes
    assert like("by-recipe", points=100).values["pretrain"]["data"] == {
        "name": "mine",
        "points": 100,
    }
    assert like("plain", clouds=3).values["pretrain"]["batch_size"] == 2


def test_of_one_class_only_pre_training_moves() -> None:
    values, notes = like("plain", classes=1)
    assert values["pretrain"]["data"]["name"] == "mine"
    assert [each["data"]["name"] for each in values["evaluate"]] == [
        "shapes", "noisy", "noisy", "shapes",
    ]  # fmt: skip
    assert values["evaluate"][0]["data"]["points"] == 512
    assert notes == ["'mine' has one class, so evaluations stay on shapes"]


def moved(
    train: tuple[int, ...], test: tuple[int, ...], *evaluate: dict[str, Any], parts: bool = False
) -> Like:
    tree = {"experiments": {"e": {"pretrain": {"data": "shapes"}, "evaluate": list(evaluate)}}}
    return experiment_like(tree, "e", NewData("mine", train, test, 1024, parts=parts))


def few(way: int, shot: int, **more: int) -> dict[str, Any]:
    return {
        "task": "fewshot",
        "label": f"{way}w{shot}s",
        "settings": {"way": way, "shot": shot, **more},
    }


def test_what_needs_part_labels_goes_where_there_are_none() -> None:
    values, notes = moved((50, 50), (9, 9), {"task": "segment"}, {"task": "svm"})
    assert values["evaluate"] == [{"task": "svm"}]
    assert notes == ["segment is left out: 'mine' has no part labels"]
    values, notes = moved((50, 50), (9, 9), {"task": "segment"}, parts=True)
    assert (values["evaluate"], notes) == ([{"task": "segment"}], [])


def test_episodes_get_no_more_ways_and_queries_than_there_are() -> None:
    values, notes = moved((19, 19, 19), (5, 4, 5), few(5, 10))
    (found,) = values["evaluate"]
    assert found == few(3, 10, queries=4)
    assert notes == [
        "fewshot 5w10s: way 5 became 3: no more classes have 10 training clouds and a test cloud",
        "fewshot 5w10s: queries 20 became 4: only so many test clouds are in each of 3 classes",
    ]
    # the classes with the most test clouds decide, among those with enough to train on
    (found,) = moved((19, 19, 19, 2), (5, 4, 3, 9), few(2, 10)).values["evaluate"]
    assert found == few(2, 10, queries=4)
    values, notes = moved((40, 40), (30, 30), few(2, 10))
    assert (values["evaluate"], notes) == ([few(2, 10)], [])


def test_episodes_that_cannot_be_drawn_or_become_alike_go() -> None:
    values, notes = moved((19, 9, 19), (5, 5, 0), few(5, 10))
    assert values["evaluate"] == []
    assert "fewer than 2 classes have 10 training clouds and a test cloud" in notes[-1]
    values, notes = moved((50, 50), (20, 20), few(5, 10), few(10, 10))
    assert values["evaluate"] == [few(2, 10)]
    assert notes[-1] == "fewshot 10w10s on shapes is left out: it would be done twice"


def test_published_episodes_are_of_the_data_that_brings_them() -> None:
    task = few(2, 10)
    task["settings"]["episodes"] = "published"
    values, notes = moved((50, 50), (20, 20), task)
    assert (values["evaluate"], notes) == (
        [],
        ["fewshot 2w10s is left out: 'mine' brings no episodes"],
    )


def test_an_episode_s_batch_is_not_larger_than_the_episode() -> None:
    values, notes = moved((50, 50), (20, 20), few(5, 5, batch_size=16))
    assert values["evaluate"] == [few(2, 5, batch_size=8)]
    assert "batch_size 16 became 8: an episode has 10 training clouds" in notes[-1]


def test_an_experiment_that_cannot_be_followed() -> None:
    with pytest.raises(ConfigError, match=r"no experiment 'plane' \(did you mean 'plain'\?\)"):
        like("plane")
    with pytest.raises(ConfigError, match=r"'none' has no pretrain\.data"):
        like("none")
