"""Reading settings: strict YAML, and errors that name the key, the value and the place."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from sa3d.config import yaml_file
from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import experiment_names, load_experiment, load_source, source_names
from sa3d.config.yaml_file import read_value, read_yaml
from sa3d.errors import ConfigError

REAL = Path(__file__).parents[2] / "params.yaml"


def load(*overrides: str) -> ExperimentConfig:
    return load_experiment("demo", REAL, overrides)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes a settings file and returns its path."""

    def file(text: str) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(text)
        return path

    return file


# --- the file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "holds list, not a mapping"),
        ("", "holds NoneType, not a mapping"),
        ("a: [", "cannot read"),
        ("other: 1", "has no mapping `experiments`"),
        ("experiments: [demo]", "has no mapping `experiments`"),
        ("experiments: {demo: 3}", "no experiment 'demo'"),
        ("experiments: {demo: {}}", "experiments.demo.variants is missing"),
        ("recipes: 3\nexperiments: {demo: {}}", "has no mapping `recipes`"),
        ("experiments: {demo: {seeds: [1], seeds: [2]}}", "the key 'seeds' occurs twice"),
        ("experiments: {3: {}}", "the key 3 is not text; put it in quotes"),
        ("experiments: {true: {}}", "the key True is not text; put it in quotes"),
        ("experiments: {demo: !!python/name:os.system x}", "cannot read"),
    ],
)
def test_an_unusable_file_is_one_message(write: Any, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment("demo", write(text))
    assert said in str(caught.value)
    assert str(write(text)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run from the project's root or give --params"):
        load_experiment("demo", tmp_path / "params.yaml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"^cannot read"):
        read_yaml(tmp_path / "params.yaml")


def test_a_repeated_key_is_told_with_its_line(write: Any) -> None:
    with pytest.raises(ConfigError, match=r"the key 'b' occurs twice .* line 3, column 3"):
        read_yaml(write("a:\n  b: 1\n  b: 2\n"))


def test_yaml_merge_keys_still_work(write: Any) -> None:
    tree = read_yaml(write("a: &shared {b: 1, c: 2}\nd: {<<: *shared, c: 3}\n"))
    assert tree["d"] == {"b": 1, "c": 3}


def test_names_are_in_the_files_order(write: Any) -> None:
    path = write("experiments: {b: {}, a: {}}\ndatasets: {d: {}, c: {}}\n")
    assert experiment_names(path) == ["b", "a"]
    assert source_names(path) == ["d", "c"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("0.001", 0.001),
        ("1E3", 1000.0),
        ("-.5e+2", -50.0),
        ("2", 2),
        ("null", None),
        ("", None),
        ("1e", "1e"),
        ("e3", "e3"),
        ("[1e-3, x]", [0.001, "x"]),
        ("{a: 1e2}", {"a": 100.0}),
        ("true", True),
    ],
)
def test_values_are_read_as_people_write_them(write: Any, text: str, value: object) -> None:
    assert (read_value(text), type(read_value(text))) == (value, type(value))
    assert read_yaml(write(f"key: {text}\n")) == {"key": value}


def test_a_source_must_say_its_kind(write: Any) -> None:
    with pytest.raises(ConfigError, match=r"datasets\.x\.source is missing"):
        load_source("x", write("datasets: {x: {seed: 1}}"))


# --- wrong settings -----------------------------------------------------------------------

D = "experiments.demo"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["pretrain.mask_ration=0.5"], f"unknown key {D}.pretrain.mask_ration (did you mean 'mask"),
        (["pretain.lr=1"], f"unknown key {D}.pretain (did you mean 'pretrain'?)"),
        (["model.qwzx=1"], f"unknown key {D}.model.qwzx; known: backbone, groups, group_size"),
        (["seed=3"], f"unknown key {D}.seed (did you mean 'seeds'?)"),
        (["pretrain.lr=-1"], f"{D}.pretrain.lr = -1: Input should be greater than 0"),
        (["pretrain.lr=fast"], f"{D}.pretrain.lr = 'fast': Input should be a valid number"),
        (["pretrain.lr=.inf"], "pretrain.lr = inf: Input should be a finite number"),
        (["pretrain.mask_ratio=1.0"], "pretrain.mask_ratio = 1.0: Input should be less than 1"),
        (["pretrain.betas=[0.9, 1.0]"], "pretrain.betas.1 = 1.0: Input should be less than 1"),
        (["pretrain.betas=[-0.1, 0.9]"], "pretrain.betas.0 = -0.1: Input should be greater"),
        (["pretrain.batch_size=1"], f"{D}.pretrain.batch_size = 1: Input should be greater"),
        (["pretrain.data.pints=3"], f"unknown key {D}.pretrain.data.pints (did you mean 'points'"),
        (["pretrain.data.points=0"], f"{D}.pretrain.data.points = 0: Input should be greater"),
        (["pretrain.gc_depth=3"], f"unknown key {D}.pretrain.gc_depth; known: epochs, "),
        (["model.groups=2.5"], f"{D}.model.groups = 2.5: Input should be a valid integer"),
        (["model.backbone=null"], f"{D}.model.backbone is missing"),
        (
            ["model.backbone=point-mea"],
            f"{D}.model.backbone = 'point-mea': unknown backbone 'point-mea' (did you mean "
            "'point-mae'?); known: point-m2ae, point-mae",
        ),
        (["model.backbone=point-m2ae", "model.group_size=3"], "(did you mean 'group_sizes'?)"),
        (
            ["variants.sa3df.mask=gcc"],
            f"{D}.variants.sa3df.mask.name = 'gcc': unknown mask strategy 'gcc' (did you mean 'gc'",
        ),
        (["variants.sa3df.mask.end_ration=1"], "sa3df.mask.end_ration (did you mean 'end_ratio'?)"),
        (["variants.random-masks.mask.end_ratio=1"], "random-masks.mask.end_ratio; known: name"),
        (["variants.sa3df.ema.strt=0.3"], f"{D}.variants.sa3df.ema.strt (did you mean 'start'?)"),
        (["variants.sa3df.point_term=x"], f"{D}.variants.sa3df.point_term = 'x': Input should be"),
        (["variants.x.method=maee"], "unknown method 'maee' (did you mean 'mae'?); known: mae, sa"),
        (
            ["evaluate.classify.settings.augment=rotate"],
            f"{D}.evaluate.2.settings.augment = 'rotate': unknown augmentation 'rotate' (did you "
            "mean 'rotate_y'?)",
        ),
        (["evaluate.classify.settings.weight_decay=.nan"], "weight_decay = nan: Input should be a"),
        (["evaluate.classify.settings.batch_size=1"], "settings.batch_size = 1: Input should be"),
        (["evaluate.0.settings.fold=2"], f"{D}.evaluate.0.settings.fold (did you mean 'folds'?)"),
        (["evaluate.0.settings.folds=1"], "settings.folds = 1: Input should be greater than or"),
        (["evaluate.0.settings.c_grid=[]"], "settings.c_grid = []: Tuple should have at least 1"),
        (["evaluate.0.sttings.folds=1"], f"{D}.evaluate.0.sttings (did you mean 'settings'?)"),
        (["evaluate.0.task=svn"], "task = 'svn': unknown task 'svn' (did you mean 'svm'?); known:"),
        (["evaluate.0.task=pretrain"], "evaluate.0.task = 'pretrain': unknown task 'pretrain'"),
        (["evaluate.0.label=A b"], f"{D}.evaluate.0.label = 'A b': String should match pattern"),
        (["seeds=[4294967296]"], f"{D}.seeds.0 = 4294967296: Input should be less than 4294967296"),
        (["seeds=[-1]"], f"{D}.seeds.0 = -1: Input should be greater than or equal to 0"),
        ([f"seeds=[{10**23}]"], f"{D}.seeds.0 = {10**23}: Input should be less than 4294967296"),
        (["seeds=[]"], f"{D}.seeds = []: Tuple should have at least 1 item"),
        (["evaluate.0.seeds=[1, 4294967296]"], f"{D}.evaluate.0.seeds.1 = 4294967296: Input"),
    ],
)
def test_a_wrong_setting_is_named_and_set_is_blamed(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(*overrides)
    message = str(caught.value)
    assert message.startswith("--set: ")
    assert said in message
    assert "; experiments" not in message, "one mistake is one problem"
    assert "; unknown" not in message
    assert len(message) < 400


def test_the_largest_seed_is_legal() -> None:
    assert load("seeds=[4294967295, 0]").seeds == (2**32 - 1, 0)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("pretrain.lr", "expected section.key=value, as in pretrain.lr=0.001"),
        ("=1", "expected section.key=value"),
        ("a..b=1", "expected section.key=value"),
        ("pretrain.lr=[1", "'[1' is not a value YAML can read"),
        ("evaluate.svn.settings.folds=3", "no such evaluation; give its number (from 0), task or"),
        ("evaluate.9.data.points=3", "as in evaluate.0.data.points=512; there are: svm, svm, clas"),
        ("evaluate.svm=3", "no such evaluation"),
    ],
)
def test_an_override_that_cannot_be_read_is_quoted(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(override)
    assert str(caught.value).startswith("--set " + override[:10])
    assert said in str(caught.value)


def test_a_mistake_is_told_where_it_was_written_and_once(write: Any) -> None:
    """Not at the variants and evaluations that took it over."""
    shared = "epochs: 3, batch_size: 8, lr: 0.1, mask_ratio: 0.6"
    variants = "variants: {a: {method: mae, mask: random}, b: {method: mae, mask: block}}"
    evaluate = "evaluate: [{task: svm}, {task: svm, data: {name: other}}]"

    def said(model: str = "{}", data: str = "{name: x}", more: str = "") -> str:
        pretrain = f"pretrain: {{data: {data}, {shared}{more}}}"
        text = f"e: {{model: {model}, {pretrain}, {variants}, {evaluate}}}"
        path = write(f"experiments: {{{text}}}")
        with pytest.raises(ConfigError) as caught:
            load_experiment("e", path)
        return str(caught.value).removeprefix(f"{path}: ")

    assert said(more=", lrr: 1") == "unknown key experiments.e.pretrain.lrr (did you mean 'lr'?)"
    assert said(more=", clip: 0").startswith("experiments.e.pretrain.clip = 0: Input should be")
    assert said(data="{name: x, pints: 1}") == (
        "unknown key experiments.e.pretrain.data.pints (did you mean 'points'?)"
    )
    assert said(model="{dpth: 2}") == "unknown key experiments.e.model.dpth (did you mean 'depth'?)"
    assert said(more=", warmup_epochs: 9") == (
        "experiments.e.variants.a: warmup_epochs=9.0 leaves nothing of epochs=3"
    )


def test_what_does_not_go_together_is_told_at_the_experiment() -> None:
    with pytest.raises(ConfigError) as caught:
        load("model.groups=4096")
    assert str(caught.value) == (
        f"{REAL}: experiments.demo: the patches of `model` need clouds of 4096 points, "
        "pretrain.data.points=512"
    )


def test_the_file_is_blamed_for_what_stands_in_it(write: Any) -> None:
    path = write(
        "experiments: {e: {model: {}, pretrain: {data: x}, variants: {a: {method: maee}}}}"
    )
    with pytest.raises(ConfigError) as caught:
        load_experiment("e", path, ["pretrain.lr=0.1"])
    assert str(caught.value).startswith(f"{path}: experiments.e.variants.a.method = 'maee': ")


def test_a_name_beside_the_key_is_refused_if_it_differs() -> None:
    with pytest.raises(ConfigError, match=r"name = 'other'.*is 'demo'"):
        load("name=other")
    assert load("name=demo") == load()


def test_without_libyaml_everything_is_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    spec = importlib.util.spec_from_file_location("without_libyaml", yaml_file.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module._Loader.__base__ is yaml.SafeLoader
    assert module.read_yaml(REAL) == read_yaml(REAL)


def test_a_value_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a value YAML can read"):
        yaml_file.read_value("\udcff")  # how a byte that is not UTF-8 arrives from a command line


@pytest.mark.parametrize("text", ["[" * 60_000, "{a: " * 60_000, "- " * 60_000])
def test_settings_nested_without_end_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a value YAML can read"):
        yaml_file.read_value(text)
    file = tmp_path / "params.yaml"
    file.write_text(f"a: {text}")
    with pytest.raises(ConfigError, match=r"cannot read .* more than 10000 lists and mappings"):
        read_yaml(file)
