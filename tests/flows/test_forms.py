"""The forms: what they offer, what they refuse, and which experiment they mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import validate
from pydantic import ValidationError

from flows.deployed import FLOWS
from flows.forms import available
from flows.forms.ablation import AblationForm
from flows.forms.base import LAST, Form
from flows.forms.evaluate import EvaluateForm
from flows.forms.experiment import ExperimentForm
from flows.forms.pretrain import PretrainForm
from flows.plan import plan
from sa3d import registry
from sa3d.config.experiment import CheckpointVariant
from sa3d.config.loading import experiment_names, load_experiment, params_file, source_names
from sa3d.errors import CheckpointError, ConfigError, UserError
from sa3d.runs.config import RunConfig, runs_of

PARAMS = params_file().resolve()
GOOD: dict[str, dict[str, Any]] = {
    "experiment": {"experiment": "demo"},
    "pretrain": {"experiment": "demo"},
    "evaluate": {"model": "models:/sa3d-demo-sa3df@candidate"},
    "ablation": {"experiment": "demo", "mask_ratio": [0.5, 0.6]},
    "promote": {"model": "sa3d-demo-sa3df"},
}


def schema(flow: str) -> dict[str, Any]:
    """What the server checks the parameters of a flow by."""
    return FLOWS[flow].parameters.model_dump()


def fields(flow: str) -> dict[str, Any]:
    """The fields of a flow's form, as the page draws them."""
    found: dict[str, Any] = schema(flow)["definitions"][form_of(flow).__name__]["properties"]
    return found


def refusal(flow: str, **given: Any) -> str:
    """What the server says of a form; empty: nothing."""
    errors = validate({"request": GOOD[flow] | given}, schema(flow))
    return "; ".join(f"{error.json_path}: {error.message}" for error in errors)


def test_choices_are_those_of_the_registry_and_of_params_yaml() -> None:
    names = experiment_names(PARAMS)
    configs = [load_experiment(name, PARAMS) for name in names]
    methods = {f"sa3d-{each.name}-{name}" for each in configs for name in each.methods}
    for flow in ("experiment", "pretrain", "evaluate", "ablation"):
        found = fields(flow)
        assert found["experiment"]["enum"] == names
        assert found["device"]["enum"] == ["auto", "cpu", "cuda"]
        assert found["where"]["enum"] == ["here", "workers"]
        assert found["queue"]["enum"] == ["default", "high"]
    variants = {name for each in configs for name in each.variants}
    assert set(fields("experiment")["variants"]["items"]["enum"]) == variants
    assert set(fields("pretrain")["variant"]["enum"]) == {n for c in configs for n in c.methods}
    assert fields("evaluate")["tasks"]["items"]["enum"] == registry.downstream()
    assert fields("evaluate")["data"]["enum"] == source_names(PARAMS)
    assert fields("ablation")["mask"]["items"]["enum"] == list(registry.MASKS)
    assert set(fields("promote")["model"]["enum"]) == methods


@pytest.mark.parametrize("flow", GOOD)
def test_a_form_asks_in_one_order_and_without_choices_of_types(flow: str) -> None:
    found = fields(flow)
    assert not {"params", "quiet"} & set(found)  # of a command line alone
    assert not any("anyOf" in each for each in found.values())
    assert all(each.get("description") for each in found.values())
    by_place = sorted(found, key=lambda name: found[name]["position"])
    assert len({each["position"] for each in found.values()}) == len(found)
    last = [name for name in by_place if name in LAST]
    assert by_place[len(by_place) - len(last) :] == last == [name for name in LAST if name in found]
    (first,) = (n for n, facts in form_of(flow).model_fields.items() if facts.is_required())
    assert by_place[0] == first


def form_of(flow: str) -> type[Form]:
    kind: type[Form] = FLOWS[flow].fn.__annotations__["request"]
    return kind


@pytest.mark.parametrize("flow", GOOD)
def test_the_server_takes_what_is_right_and_no_unknown_field(flow: str) -> None:
    assert refusal(flow) == ""
    assert "'mask_ratoi' was unexpected" in refusal(flow, mask_ratoi=0.5)
    with pytest.raises(ValidationError):
        form_of(flow).model_validate(GOOD[flow] | {"mask_ratoi": 0.5})


@pytest.mark.parametrize(
    ("flow", "given", "said"),
    [
        ("experiment", {"experiment": "dmeo"}, "$.request.experiment: 'dmeo' is not one of"),
        ("experiment", {"mask_ratio": 1.0}, "$.request.mask_ratio: 1.0 is greater than or equal"),
        ("experiment", {"epochs": 0}, "$.request.epochs: 0 is less than or equal"),
        ("experiment", {"epochs": 1.5}, "$.request.epochs: 1.5 is not valid"),
        ("experiment", {"lr": 0}, "$.request.lr: 0 is less than or equal"),
        ("experiment", {"batch_size": 1}, "$.request.batch_size: 1 is less than"),
        ("experiment", {"seeds": [-1]}, "$.request.seeds[0]: -1 is less than"),
        ("experiment", {"seeds": [1, 1]}, "has non-unique elements"),
        ("experiment", {"variants": ["sa4d"]}, "$.request.variants[0]: 'sa4d' is not one of"),
        ("experiment", {"where": "there"}, "$.request.where: 'there' is not one of"),
        ("experiment", {"queue": "low"}, "$.request.queue: 'low' is not one of"),
        ("pretrain", {"variant": "scratch"}, "$.request.variant: 'scratch' is not one of"),
        ("evaluate", {"model": ""}, "$.request.model: '' should be non-empty"),
        ("evaluate", {"tasks": ["pretrain"]}, "$.request.tasks[0]: 'pretrain' is not one of"),
        ("ablation", {"end_ratio": [1.1]}, "$.request.end_ratio[0]: 1.1 is greater than"),
        ("ablation", {"grid": {"depth": 4}}, "$.request.grid.depth: 4 is not of type"),
        ("promote", {"version": 0}, "$.request.version: 0 is less than or equal"),
    ],
)
def test_a_wrong_value_is_refused_by_the_server_with_its_field(
    flow: str, given: dict[str, Any], said: str
) -> None:
    assert said in refusal(flow, **given)


def test_an_untouched_form_is_the_experiment_of_params_yaml() -> None:
    for name in experiment_names(PARAMS):
        form = ExperimentForm(experiment=name, params=PARAMS, settings={})
        assert load_experiment(name, PARAMS) == load_experiment(
            name, PARAMS, form.overrides_for(name)
        )


def test_fields_mean_every_variant_also_one_whose_recipe_has_its_own() -> None:
    form = ExperimentForm(
        experiment="point-mae-sa3df", params=PARAMS, epochs=50, batch_size=8, mask_ratio=0.5
    )
    config = load_experiment(
        form.experiment, PARAMS, [*form.overrides_for(form.experiment), "evaluate=[]"]
    )
    assert load_experiment(form.experiment, PARAMS).methods["random-masks"].epochs == 301
    found = {(each.epochs, each.batch_size, each.mask_ratio) for each in config.methods.values()}
    assert found == {(50, 8, 0.5)}


def test_settings_are_those_of_the_command_line() -> None:
    keys = {"pretrain.weight_decay": 0.1, "evaluate.svm.settings.folds": 5, "seeds": "[4, 5]"}
    form = ExperimentForm(experiment="demo", params=PARAMS, settings=keys)
    (config,) = form.request().configs
    same = ["pretrain.weight_decay=0.1", "evaluate.svm.settings.folds=5", "seeds=[4,5]"]
    assert config == load_experiment("demo", PARAMS, same)
    assert form.title == (
        "demo: pretrain.weight_decay=0.1, evaluate.svm.settings.folds=5, seeds=[4, 5]"
    )
    assert ExperimentForm(experiment="demo").title == "demo"


def decided(runs: list[RunConfig]) -> dict[str, dict[str, Any]]:
    return {run.spec.name: run.deciding() for run in runs}


def test_chosen_variants_are_the_runs_that_they_were_and_bring_their_teachers() -> None:
    form = ExperimentForm(experiment="demo", params=PARAMS, variants=("sa3df", "scratch"))
    (config,) = form.request().configs
    whole = decided(runs_of(load_experiment("demo", PARAMS)))
    found = decided(runs_of(config))
    assert found == {name: whole[name] for name in found}
    assert "pretrain-shapes-random-masks-s0" in found  # the teacher
    assert {name for name in whole if name not in found} == {
        name for name in whole if "random-masks" in name and not name.startswith("pretrain")
    }
    other = ExperimentForm(experiment="demo", params=PARAMS, variants=("scratch",)).request()
    assert other.configs[0].reference == "scratch"


def test_pre_training_is_the_variant_for_its_seeds_and_evaluates_nothing() -> None:
    form = PretrainForm(experiment="demo", params=PARAMS, variant="random-masks", seeds=(1, 2))
    request = form.request()
    names = [node.name for node in plan(*request.configs, register=request.register).nodes]
    pretrained = [f"pretrain-shapes-random-masks-s{seed}" for seed in (1, 2)]
    assert names == [*pretrained, "register-random-masks-s1", "register-random-masks-s2"]
    assert request.out.name == "demo-pretrain-random-masks"
    assert form.title == "demo random-masks: seeds=1+2"
    names = [
        each.spec.variant for each in runs_of(PretrainForm(experiment="demo").request().configs[0])
    ]
    assert names == ["random-masks", "sa3df"]  # its teacher, and the reference


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (lambda: ExperimentForm(experiment="dmeo"), "no experiment 'dmeo'.*did you mean 'demo'"),
        (
            lambda: ExperimentForm(experiment="demo", settings={"pretrain.epoch": 3}),
            r"unknown key experiments\.demo\.pretrain\.epoch \(did you mean 'epochs'",
        ),
        (
            lambda: ExperimentForm(experiment="demo", epochs=2),
            "warmup_epochs=2.0 leaves nothing of epochs=2",
        ),
        (
            lambda: ExperimentForm(experiment="demo", variants=("sa3d",)),
            "'demo' has no variant 'sa3d'.*it has: sa3df, random-masks, scratch",
        ),
        (
            lambda: PretrainForm(experiment="demo", variant="scratch"),
            "variant scratch of 'demo' is not pre-trained; choose of random-masks, sa3df",
        ),
        (lambda: AblationForm(experiment="demo", mask_ratio=(0.5,)), "two combinations at least"),
        (
            lambda: AblationForm(experiment="demo", mask=("gc", "random"), variant="random-masks"),
            "mask=gc needs a method that predicts scores",
        ),
        (
            lambda: AblationForm(experiment="demo", grid={"model.depth": list(range(1, 70))}),
            "69 combinations are more than 64",
        ),
        (
            lambda: AblationForm(experiment="demo", mask_ratio=(0.5, 0.6), tasks=("fewshots",)),
            "no evaluation by task 'fewshots'.*did you mean 'fewshot'",
        ),
    ],
)
def test_what_no_schema_can_refuse_is_refused_in_one_line(
    form: Callable[[], Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        form().request()
    assert "\n" not in str(refused.value)


def test_an_ablation_is_a_grid_in_which_a_strategy_without_a_curriculum_stands_once() -> None:
    form = AblationForm(
        experiment="demo",
        params=PARAMS,
        mask_ratio=(0.5, 0.75),
        mask=("gc", "random"),
        end_ratio=(0.3, 0.6),
        tasks=("svm",),
    )
    request = form.request()
    assert [tuple(cell.values.values()) for cell in request.cells] == [
        (ratio, *rest) for ratio in (0.5, 0.75) for rest in (("gc", 0.3), ("gc", 0.6), ("random",))
    ]
    assert [cell.config.name for cell in request.cells[:3]] == [
        "demo-mask_ratio-0.5-gc-end_ratio-0.3",
        "demo-mask_ratio-0.5-gc-end_ratio-0.6",
        "demo-mask_ratio-0.5-random",
    ]
    method = request.configs[1].methods["sa3df"]
    assert (method.mask_ratio, method.mask.name, method.mask.model_dump()["end_ratio"]) == (
        *(0.5, "gc"),
        0.6,
    )
    assert {each.task for config in request.configs for each in config.evaluate} == {"svm"}
    assert not request.register  # the candidate is none of them
    title = "demo: mask_ratio=0.5+0.75, mask=gc+random, end_ratio=0.3+0.6, tasks=svm"
    assert form.title == title


def test_any_setting_makes_a_grid() -> None:
    grid: dict[str, list[Any]] = {
        "model.depth": [2, 4],
        "evaluate.svm.settings.folds": [3],
        "pretrain.betas": [[0.9, 0.95], [0.9, 0.999]],
    }
    form = AblationForm(experiment="demo", params=PARAMS, grid=grid, variant="random-masks")
    found = form.request().configs
    assert [
        (each.model.model_dump()["depth"], each.methods["random-masks"].betas) for each in found
    ] == [(depth, betas) for depth in (2, 4) for betas in ((0.9, 0.95), (0.9, 0.999))]
    assert len({each.name for each in found}) == 4


def encoder(folder: Path, **more: Any) -> Path:
    """A folder that passes for an encoder which the demo pre-trained."""
    config = load_experiment("demo", PARAMS)
    card = {
        "sha256": "a" * 64,
        "kind": "pretrain",
        "model": config.model.model_dump(mode="json"),
        "experiment": "demo",
        "spec": {"variant": "sa3df"},
        **more,
    }
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(card))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_evaluation_of_a_model_is_that_of_its_experiment(tmp_path: Path) -> None:
    """With the same runs, so that those that were made with this very encoder are found."""
    model = encoder(tmp_path / "mine")
    form = EvaluateForm(model=str(model), params=PARAMS, scratch=True)
    (config,) = form.request().configs
    variant = config.variants["sa3df"]
    assert isinstance(variant, CheckpointVariant)
    assert variant.checkpoint == str(model)
    assert (config.name, config.reference, list(config.variants)) == (
        *("evaluate-mine", "sa3df"),
        ["sa3df", "scratch"],
    )
    whole = decided(runs_of(load_experiment("demo", PARAMS)))
    found = decided(runs_of(config))
    assert found == {
        name: whole[name]
        for name in whole
        if not name.startswith("pretrain") and "random-masks" not in name
    }


def test_evaluation_by_chosen_tasks_data_and_seeds(tmp_path: Path) -> None:
    form = EvaluateForm(
        model=str(encoder(tmp_path / "mine")),
        params=PARAMS,
        tasks=("svm", "fewshot"),
        data="shapes-noisy",
        seeds=(3, 4),
        settings={"evaluate.fewshot.settings.folds": 2},
    )
    runs = [node.name for node in plan(*form.request().configs).nodes]
    assert runs == [
        *(f"svm-shapes-noisy-sa3df-s{seed}" for seed in (3, 4)),  # two of the demo's are one here
        *(f"fewshot-5w10s-shapes-noisy-sa3df-s{s}-f{f}" for s in (3, 4) for f in (0, 1)),
    ]
    assert form.title.endswith(
        ": tasks=svm+fewshot, data=shapes-noisy, seeds=3+4, evaluate.fewshot.settings.folds=2"
    )


def test_a_converted_model_names_no_experiment(tmp_path: Path) -> None:
    model = encoder(tmp_path / "point mae", experiment=None, spec=None)
    with pytest.raises(ConfigError, match="say whose evaluations are wanted, of demo"):
        EvaluateForm(model=str(model), params=PARAMS).request()
    (config,) = EvaluateForm(model=str(model), params=PARAMS, experiment="demo").request().configs
    assert list(config.variants) == ["point-mae"]


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    classifier = encoder(tmp_path / "classifier", kind="classifier")
    with pytest.raises(CheckpointError, match="it is a classifier; give a pre-trained encoder"):
        EvaluateForm(model=str(classifier), params=PARAMS).request()
    with pytest.raises(CheckpointError, match="no exported model in"):
        EvaluateForm(model=str(tmp_path / "nothing"), params=PARAMS).request()
    with pytest.raises(UserError, match="is no model; give NAME, NAME@ALIAS or NAME/VERSION"):
        EvaluateForm(model="models:/mine/first", params=PARAMS).request()


def test_names_on_offer_follow_the_file_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.yaml").write_text(
        "datasets: {a: {source: shapes}}\n"
        "recipes: {masked: {method: mae, mask: random}}\n"
        "experiments: {mine: {variants: {one: {recipe: masked}, two: {scratch: true}}}}\n"
    )
    from sa3d.utils import paths

    monkeypatch.setattr(paths, "_given", tmp_path / "own.yaml")
    assert available.experiments() == ["mine"]
    assert available.datasets() == ["a"]
    assert available.variants() == ["one", "two"]
    assert available.pretrained() == ["one"]
    assert available.models() == ["sa3d-mine-one"]
