"""From training to champion and back: real runs of a tiny experiment, a real store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sa3d.cli.main import app
from sa3d.config.loading import load_experiment
from sa3d.inference.serving import FeatureModel
from sa3d.runs.config import RunConfig, choose, runs_of
from sa3d.runs.launch import Options, launch, locate_from
from sa3d.tracking import keys, lineage, mlflow_store, mlflow_sync, model_registry
from sa3d.tracking.conclude import conclude
from sa3d.tracking.journal import FILE, entries

pytestmark = pytest.mark.slow
NAME = "sa3d-tiny-sa3df"
CLEARED = ("DVC_ROOT", "SA3D_TAGS", "SA3D_WORK", "MLFLOW_TRACKING_URI")


@dataclass(frozen=True)
class Made:
    """A project in a git checkout whose SA3DF model is registered and evaluated."""

    root: Path
    student: Path
    teacher: Path
    svm: Path
    results: Path
    commit: str
    digest: str
    md5: str


@pytest.fixture(scope="module")
def made(
    tiny_root: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    root = tmp_path_factory.mktemp("project") / "checkout"
    shutil.copytree(tiny_root, root)
    shutil.copy(empty_store, root / "mlflow.db")
    file = root / "data" / "processed" / "tiny.h5"
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    out = f"{{path: data/processed/tiny.h5, md5: {md5}}}"
    (root / "dvc.lock").write_text(f"stages: {{prepare@tiny: {{outs: [{out}]}}}}\n")
    (root / ".gitignore").write_text("data\nwork\nml*\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in CLEARED:
            patch.delenv(name, raising=False)
        patch.setenv("SA3D_ROOT", str(root))
        patch.chdir(root)
        lineage.git.cache_clear()
        mlflow_store.init_store()
        config = load_experiment("tiny")
        teacher, student = (
            _launched(choose(config, "pretrain", variant=each))
            for each in ("random-masks", "sa3df")
        )
        svm = _launched(choose(config, "svm", variant="sa3df"))
        nodes: dict[str, Any] = {"svm": {"run_dir": f"work/{svm.name}"}}
        for variant, folder in (("random-masks", teacher), ("sa3df", student)):
            version = model_registry.register(folder, "tiny", variant)
            nodes[variant] = {"run_dir": f"work/{folder.name}", "model_version": version}
        results = root / "results.json"
        results.write_text(json.dumps({"nodes": nodes}))
        assert conclude(results) == ["sa3d-tiny-random-masks/1", f"{NAME}/1"]
        digest = json.loads((svm / "result.json").read_text())["data"]["digest"]
        commit = lineage.git()["git.commit"]
        yield Made(root, student, teacher, svm, results, commit, digest, md5)
    lineage.git.cache_clear()


def _launched(run: RunConfig) -> Path:
    config = load_experiment("tiny")
    assert run in runs_of(config)
    return launch(locate_from(config, run), Options("cpu", 1, quiet=True))


def sa3d(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def measured(made: Made) -> float:
    value: float = json.loads((made.svm / "result.json").read_text())["metrics"]["test/acc"]
    return value


def test_a_version_says_what_it_is_and_what_was_measured(made: Made) -> None:
    opened = mlflow_store.client()
    version = opened.get_model_version(NAME, "1")
    accuracy = measured(made)
    for words in (
        "point-mae with ",
        "by `sa3df` (variant sa3df of experiment tiny, seed 1)",
        f"training clouds), digest {made.digest[:12]}, 64 points a cloud",
        "3 epochs, 32 clouds a batch, learning rate 0.001, mask `gc` of 60% of the patches, "
        "distils pretrain-tiny-random-masks-s1",
        "n ≥ 64 points, y axis up; 64 farthest points are kept, then scaled to the unit sphere",
        f"- svm-tiny: test/acc {accuracy:.4f} (seed 1; data digest {made.digest[:12]})",
    ):
        assert words in version.description
    told = {
        "gate/svm-tiny": f"{accuracy:.4f}",
        "preprocessing.points": "64",
        "preprocessing.normalisation": "subsample",
        "preprocessing.stored_points": "128",
        "preprocessing.up": "y",
        "git.commit": made.commit,
        "git.dirty": "false",
        "data.tiny.md5": made.md5,
        "data.digest": made.digest,
    }
    assert told.items() <= version.tags.items()
    model_id = version.source.removeprefix("models:/")
    assert [m.value for m in opened.get_logged_model(model_id).metrics] == [accuracy]
    place = opened.get_experiment_by_name("sa3d/pretrain").experiment_id
    wanted = f"metrics.`gate/svm-tiny` >= {accuracy - 1e-6}"
    found = opened.search_logged_models([place], filter_string=wanted)
    assert [each.model_id for each in found] == [model_id]


def test_telling_it_again_changes_nothing(made: Made) -> None:
    opened = mlflow_store.client()
    before = opened.get_model_version(NAME, "1")
    model_id = before.source.removeprefix("models:/")
    conclude(made.results)
    model_registry.register(made.student, "tiny", "sa3df")
    after = opened.get_model_version(NAME, "1")
    assert (after.description, after.tags) == (before.description, before.tags)
    assert len(opened.get_logged_model(model_id).metrics) == 1


def test_runs_from_before_these_tags_are_linked(made: Made) -> None:
    run = mlflow_sync.run_of(made.svm)
    assert run is not None
    opened = mlflow_store.client()
    told = (keys.ENCODER, keys.DATA, keys.PROTOCOL)
    before = opened.get_run(run.run_id).data.tags
    lines = (made.svm / FILE).read_text().splitlines(keepends=True)
    kept = []
    for line in lines:
        entry = json.loads(line)
        if entry["kind"] == "tags":
            entry["values"] = {k: v for k, v in entry["values"].items() if k not in told}
        kept.append(json.dumps(entry) + "\n")
    (made.svm / FILE).write_text("".join(kept))
    for key in told:
        opened.delete_tag(run.run_id, key)
    conclude(made.results)
    after = opened.get_run(run.run_id).data.tags
    assert {key: after[key] for key in told} == {key: before[key] for key in told}
    assert opened.get_run(run.run_id).info.status == "FINISHED"
    assert len(entries(made.svm / FILE)) == len(lines) + 1
    conclude(made.results)
    assert len(entries(made.svm / FILE)) == len(lines) + 1


def test_promoted_traced_and_rolled_back_by_commands(made: Made) -> None:
    rules = made.root / "strict.yaml"
    rules.write_text("gate: {tasks: {svm: {minimum: 1.1}}}\n")
    code, said = sa3d("promote", NAME, "--params", str(rules))
    value = f"{measured(made):.4f}"
    assert (code, said.splitlines()) == (
        1,
        [f"{NAME} version 1 does not pass", f"svm-tiny: test/acc {value} is below 1.1"],
    )
    code, said = sa3d("promote", NAME, "--dry-run")
    assert (code, said.splitlines()[0]) == (0, f"{NAME} version 1 would pass")
    code, said = sa3d("promote", f"models:/{NAME}@candidate", "--json")
    assert code == 0
    assert json.loads(said)["moved"] is True
    code, said = sa3d("promote", f"{NAME}/1")
    assert (code, said) == (0, f"{NAME} version 1 is the champion already\n")

    code, said = sa3d("lineage", f"models:/{NAME}@champion")
    assert code == 0
    for words in (
        f"{NAME} version 1",
        "candidate, champion",
        "gate            passed (svm-tiny: test/acc",
        f"digest {made.digest}",
        f"data md5 (DVC)  {made.md5}",
        f"commit          {made.commit}",
        "ok              data/processed/tiny.h5 has this digest",
        "ok              data/processed/tiny.h5 has this md5",
        "ok              the commit is in this clone",
        "has this sha256",
        "settings.mask_ratio = 0.6",
        "distils: sa3d-tiny-random-masks version 1",
    ):
        assert words in said
    code, said = sa3d("lineage", NAME, "--json")
    (tree,) = json.loads(said)
    assert tree["facts"]["commit"] == made.commit
    assert tree["settings"]["settings.epochs"] == 3
    assert tree["parents"]["distils"]["settings"]["settings.method"] == "mae"
    assert {each["state"] for each in tree["findings"]} == {"holds"}

    code, said = sa3d("rollback", NAME)
    assert code == 2
    assert "has no champion before version 1" in str(said)


def test_a_run_folder_and_the_results_of_an_experiment(made: Made) -> None:
    code, said = sa3d("lineage", str(made.svm), "--json")
    assert code == 0
    (tree,) = json.loads(said)
    assert tree["what"] == f"run {made.svm.name}"
    start = tree["parents"]["started from"]
    assert start["what"] == f"run {made.student.name}"
    assert start["parents"]["distils"]["what"] == f"run {made.teacher.name}"
    assert start["facts"]["data"] == f"tiny, digest {made.digest}"
    code, said = sa3d("lineage", str(made.results), "--json")
    assert code == 0
    assert [each["what"] for each in json.loads(said)] == [
        "sa3d-tiny-random-masks version 1",
        f"{NAME} version 1",
    ]


def test_it_says_when_it_cannot_check_and_when_something_is_wrong(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"  # no data, no run folders, no git
    elsewhere.mkdir()
    (elsewhere / "params.yaml").write_text((made.root / "params.yaml").read_text())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store.sqlite_uri(made.root / "mlflow.db"))
    monkeypatch.setenv("SA3D_ROOT", str(elsewhere))
    monkeypatch.chdir(elsewhere)
    lineage.git.cache_clear()
    code, said = sa3d("lineage", f"{NAME}/1")
    assert code == 0
    assert "?               data/processed/tiny.h5 is not here" in said
    assert "this is no git checkout: the commit cannot be looked up" in said
    assert "model.safetensors is not here" in said

    processed = elsewhere / "data" / "processed" / "tiny.h5"
    processed.parent.mkdir(parents=True)
    shutil.copy(made.root / "data" / "processed" / "tiny.h5", processed)
    import h5py

    with h5py.File(processed, "r+") as file:
        file.attrs["digest"] = "0123456789abcdef"
    subprocess.run(["git", "init", "-q", str(elsewhere)], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    words = ["git", "-C", str(elsewhere), *who, "commit", "-q", "--allow-empty", "-m", "other"]
    subprocess.run(words, check=True)
    lineage.git.cache_clear()
    code, said = sa3d("lineage", f"{NAME}/1")
    assert code == 1
    assert "WRONG           data/processed/tiny.h5 has digest 0123456789ab" in said
    assert "WRONG           data/processed/tiny.h5 has another md5" in said
    assert "the commit is not in this clone" in said
    lineage.git.cache_clear()


@pytest.mark.parametrize("given", ["a:b", "no-such-model", "results.json/3"])
def test_what_is_no_model_is_refused_in_a_line(made: Made, given: str) -> None:
    code, said = sa3d("lineage", given)
    assert code == 2
    assert len(said.splitlines()) == 1


LOADER = """
import sys
import numpy as np
import mlflow, mlflow.pyfunc
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
np.save(sys.argv[4], model.predict(np.load(sys.argv[3])))
example = model.input_example if hasattr(model, "input_example") else None
info = model.metadata
print(info.saved_input_example_info["type"], info.metadata["preprocessing.points"])
"""


def test_it_is_served_without_a_pickle(made: Made, tmp_path: Path) -> None:
    clouds = np.random.default_rng(1).normal(size=(2, 128, 3)).astype(np.float32)
    np.save(tmp_path / "clouds.npy", clouds)
    words = [mlflow_store.tracking_uri(), f"models:/{NAME}@candidate"]
    files = [str(tmp_path / "clouds.npy"), str(tmp_path / "features.npy")]
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *words, *files],
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["ndarray", "64"]
    wanted = FeatureModel(made.student / "model").predict(clouds)
    np.testing.assert_allclose(np.load(files[1]), wanted, rtol=1e-4, atol=1e-5)
    artifacts = [path for path in (made.root / "mlartifacts").rglob("*") if path.is_file()]
    assert any(path.name == "model.safetensors" for path in artifacts)
    pickles = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt"}
    assert [path for path in artifacts if path.suffix in pickles and "models" in path.parts] == []
