"""A value that only a library would refuse, after hours of work, is refused when it is read: in one
line, with the key, the value and the bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from sa3d.config.base import Frozen
from sa3d.config.loading import load_experiment, load_source
from sa3d.errors import ConfigError


@pytest.fixture
def params(tiny: Path, tmp_path: Path) -> str:
    return (tiny / "params.yaml").read_text()


def said_of(tmp_path: Path, text: str, *, source: bool = False) -> str:
    """The refusal of a settings file, which must be one line."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as told:
        (load_source if source else load_experiment)("tiny", path)
    (line,) = str(told.value).splitlines()
    return line


VALUES = [
    ("seeds: [1]", "seeds: [4294967296]", "seeds.0 = 4294967296", "less than 4294967296"),
    ("seeds: [1]", f"seeds: [{10**23}]", f"seeds.0 = {10**23}", "less than 4294967296"),
    ("seeds: [1]", "seeds: [-1]", "seeds.0 = -1", "greater than or equal to 0"),
    ("seeds: [1]", "seeds: [1, 1]", "seeds has 1", "more than once"),
    ("seeds: [1]", "seeds: [true]", "seeds", "a number is expected, not true or false"),
    ("epochs: 3", f"epochs: {10**21}", f"pretrain.epochs = {10**21}", "less than 2147483648"),
    ("epochs: 3", "epochs: true", "pretrain.epochs = True", "a number is expected"),
    ("lr: 1.0e-3, warmup", "lr: true, warmup", "pretrain.lr = True", "a number is expected"),
    ("lr: 1.0e-3, warmup", "lr: .nan, warmup", "pretrain.lr = nan", "finite"),
    ("{folds: 2}", "{folds: 1}", "evaluate.0.settings.folds = 1", "greater than or equal to 2"),
    ("{folds: 2}", "{folds: 2, c_grid: []}", "c_grid = []", "at least 1 item"),
    ("{folds: 2}", "{folds: 2, c_grid: [0]}", "c_grid.0 = 0", "greater than 0"),
    ("batch_size: 16", "batch_size: 1", "evaluate.1.settings.batch_size = 1", "equal to 2"),
    ("batch_size: 6", "batch_size: 1", "evaluate.2.settings.batch_size = 1", "equal to 2"),
    ("batch_size: 32", "batch_size: 1", "pretrain.batch_size = 1", "equal to 2"),
    ("heads: 2", "heads: 3", "model: dim=16", "not a multiple of heads=3"),
]


@pytest.mark.parametrize(("old", "new", "key", "bound"), VALUES, ids=[new for _, new, *_ in VALUES])
def test_a_value_out_of_bounds(
    params: str, tmp_path: Path, old: str, new: str, key: str, bound: str
) -> None:
    line = said_of(tmp_path, params.replace(old, new, 1))
    assert key in line
    assert bound in line


@pytest.mark.parametrize("seed", ["4294967296", "-1", "true"])
def test_the_seed_of_a_data_set(params: str, tmp_path: Path, seed: str) -> None:
    line = said_of(tmp_path, params.replace("seed: 0", f"seed: {seed}"), source=True)
    assert "datasets.tiny.seed = " in line


@pytest.mark.parametrize("name", ["[r]", "5", "r2", "{a: b}", "[]"])
def test_a_recipe_that_is_none(params: str, tmp_path: Path, name: str) -> None:
    text = "recipes:\n  r: {epochs: 3}\n" + params.replace("seeds: [1]", f"recipe: {name}", 1)
    line = said_of(tmp_path, text)
    assert "experiments.tiny: no recipe '" in line
    assert "`recipes` has: r" in line


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    seeds: [1]", "    seeds: [1]\n    seeds: [2]", "the key 'seeds' occurs twice"),
        ("      scratch: {", "      5: {", "the key 5 is not text"),
        ("      scratch: {", "      true: {", "the key True is not text"),
        ("  tiny: {source", "  7: {source", "the key 7 is not text"),
    ],
)
def test_keys(params: str, tmp_path: Path, old: str, new: str, said: str) -> None:
    line = said_of(tmp_path, params.replace(old, new, 1))
    assert said in line
    assert "line " in line


def test_what_is_true_or_false_still_may_be() -> None:
    class Settings(Frozen):
        flag: bool = False
        either: bool | int = 0
        numbers: tuple[int, ...] | None = None

    found = Settings(flag=True, either=True, numbers=(1, 2))
    assert (found.flag, found.either, found.numbers) == (True, True, (1, 2))
    assert Settings(numbers=None).numbers is None
