"""A user of the shared servers: an experiment, data through the DVC remote, and no secret left
anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest

from tests.shared.compose import ROOT
from tests.shared.conftest import Stack

# one process of several runs them all: the servers are started once
pytestmark = [
    pytest.mark.slow,
    pytest.mark.stack,
    pytest.mark.timeout(1500),
]
PARTS = ("sa3d", "flows", "extensions", "docker/quiet.env", ".dvc/config", ".gitignore")
EXPERIMENT = "experiment@demo"
PARAMS = """
datasets:
  shapes: {source: shapes, seed: 0, shapes_per_class: 8, points: 128, test_fraction: 0.4}
experiments:
  demo:
    seeds: [3]
    model: {groups: 8, group_size: 8, dim: 24, depth: 2, heads: 2, decoder_depth: 1}
    pretrain:
      {data: {name: shapes, points: 64, val_fraction: 0.3}, mask_ratio: 0.5, epochs: 2,
       batch_size: 32, lr: 1.0e-3}
    variants: {mae: {method: mae, mask: random}, scratch: {scratch: true}}
    reference: mae
    evaluate: [{task: svm, settings: {folds: 2}}]
"""
PLANTED = {
    # what nothing of this project reads, but what is often there
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret-4f9c1e",
    "AWS_ACCESS_KEY_ID": "PLANTEDAWSKEY4F9C1E",
    "AWS_SESSION_TOKEN": "planted-aws-session-4f9c1e",
    "PGPASSWORD": "planted-database-password-4f9c1e",
    "PREFECT_SERVER_DATABASE_PASSWORD": "planted-prefect-database-4f9c1e",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "planted-flask-key-4f9c1e",
    "GITHUB_TOKEN": "planted-github-token-4f9c1e",
}
REMOTE_TOKEN = "planted-git-remote-token-4f9c1e"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the project's code, a tiny experiment, and a remote with a token."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
            shutil.copytree(source, target, ignore=unwanted)
        else:
            shutil.copy2(source, target)
    (folder / "params.yaml").write_text(PARAMS)
    env = {**os.environ, "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "-m", "flows.dvc_pipeline"], cwd=folder, env=env, check=True)
    remote = f"https://ann:{REMOTE_TOKEN}@git.example/sa3d.git"
    me = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", remote],
        ["add", "-A"],
        ["commit", "-q", "-m", "begin"],
    ):
        subprocess.run(["git", *me, *words], cwd=folder, check=True)
    return folder


def client(stack: Stack, checkout: Path) -> dict[str, str]:
    """Variables of a client whose addresses hold the passwords, and who has more secrets set."""
    env = stack.client()
    user, _, password = env.pop("PREFECT_API_AUTH_STRING").partition(":")
    env["PREFECT_API_URL"] = f"http://{user}:{quote(password)}@{stack.prefect[7:]}"
    name, password = env.pop("MLFLOW_TRACKING_USERNAME"), env.pop("MLFLOW_TRACKING_PASSWORD")
    env["MLFLOW_TRACKING_URI"] = f"http://{name}:{quote(password)}@{stack.mlflow[7:]}"
    own = checkout.with_name("own")  # beside the checkout, which stays clean
    own.mkdir(exist_ok=True)
    return env | {
        **PLANTED,
        "PYTHONPATH": str(checkout),
        "TMPDIR": str(own),
        "HOME": str(own),
        "DVC_SITE_CACHE_DIR": str(own / "site"),
        "OMP_NUM_THREADS": "1",
    }


def dvc(checkout: Path, env: dict[str, str], *words: str) -> str:
    """What a ``dvc`` command says; it has to end well."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=checkout,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def experiment(stack: Stack, checkout: Path) -> str:
    """The experiment, made once against the servers; what it said."""
    return dvc(checkout, client(stack, checkout), "repro", EXPERIMENT)


def results(checkout: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((checkout / "reports/demo/results.json").read_text())
    return found


@pytest.fixture
def opened(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's client, logged in."""
    from sa3d.tracking import mlflow_store

    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", stack.client()[f"MLFLOW_TRACKING_{name}"])
    return mlflow_store.client(stack.mlflow)


def test_an_experiment_on_shared_servers(
    stack: Stack, checkout: Path, experiment: str, opened: Any
) -> None:
    found = results(checkout)
    assert {node["status"] for node in found["nodes"].values()} == {"finished"}
    # runs in MLflow, with their links and files
    summary = opened.get_experiment_by_name("sa3d/experiments")
    assert summary.artifact_location.startswith("mlflow-artifacts:"), "not S3: by the server"
    [run] = opened.search_runs([summary.experiment_id])
    assert run.info.status == "FINISHED"
    pictures = [each.path for each in opened.list_artifacts(run.info.run_id, "report")]
    assert "report/report.html" in pictures
    link = found["nodes"]["svm-shapes-mae-s3"]["mlflow_url"]
    assert link.startswith(f"{stack.mlflow}/#/experiments/")
    # files in the bucket, though the client was not told where S3 is
    keys = stack.s3()
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{stack.places.s3}",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    names = {each["Key"] for each in s3.list_objects_v2(Bucket="mlflow")["Contents"]}
    assert any(name.endswith("report/report.html") for name in names)
    assert any(name.endswith("model.safetensors") for name in names), sorted(names)[:20]
    version = opened.get_model_version_by_alias("sa3d-demo-mae", "candidate")
    assert version.run_id == found["nodes"]["pretrain-shapes-mae-s3"]["mlflow_run_id"]
    # and the flow run in Prefect
    said = subprocess.run(
        [sys.executable, "-m", "prefect", "flow-run", "inspect", found["prefect_flow_run"]],
        env={**stack.client(), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Completed" in said.stdout


def test_data_come_back_from_the_remote_and_nothing_runs_again(
    stack: Stack, checkout: Path, experiment: str
) -> None:
    env = client(stack, checkout) | stack.s3()
    env.pop("AWS_SESSION_TOKEN")
    dvc(checkout, env, "remote", "add", "-d", "shared", "s3://dvc/sa3d")
    address = f"http://127.0.0.1:{stack.places.s3}"
    dvc(checkout, env, "remote", "modify", "shared", "endpointurl", address)
    assert "pushed" in dvc(checkout, env, "push")
    before = (checkout / "data/processed/shapes.h5").read_bytes()
    shutil.rmtree(checkout / ".dvc" / "cache")
    shutil.rmtree(checkout / "data" / "processed")
    assert "up to date" not in dvc(checkout, env, "status"), "it misses what was wiped"
    dvc(checkout, env, "pull")
    assert (checkout / "data/processed/shapes.h5").read_bytes() == before
    runs = sorted(each.name for each in (checkout / "work").iterdir())
    said = dvc(checkout, env, "repro", EXPERIMENT)
    assert "up to date" in said
    assert "Running stage" not in said
    assert sorted(each.name for each in (checkout / "work").iterdir()) == runs


def test_no_secret_is_written_or_said(stack: Stack, checkout: Path, experiment: str) -> None:
    """Files of the project, the client's home, both databases, the bucket, the servers' logs."""
    user_and_password = [stack.secret(each) for each in sorted(_names(stack))]
    passwords = [each.rpartition(":")[2] for each in user_and_password]
    secrets = [*PLANTED.values(), REMOTE_TOKEN, *passwords]
    secrets = [each.encode() for each in secrets]
    places = {"what the experiment said": experiment.encode()}
    places |= {f"database {name}": _dump(stack, name) for name in ("prefect", "mlflow")}
    places |= _bucket(stack)
    for folder in (checkout, checkout.with_name("own"), stack.folder):
        places |= {
            str(path): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path != checkout / ".git" / "config"  # where it was planted
        }
    assert sum("journal.jsonl" in place for place in places) >= 4
    assert any(place.endswith("report.html") for place in places)
    assert sum(map(len, places.values())) > 1_000_000
    found = [
        (place, secret.decode()[:12])
        for place, content in places.items()
        for secret in secrets
        if secret in content
    ]
    assert found == []


def _database(stack: Stack) -> dict[str, str]:
    return {"PGHOST": "127.0.0.1", "PGPORT": str(stack.places.postgres)}


def _names(stack: Stack) -> list[str]:
    return [each.name for each in stack.places.secrets.iterdir()]


def _dump(stack: Stack, database: str) -> bytes:
    """All of a database, as text."""
    found = subprocess.run(
        ["pg_dump", "-w", "-U", database, "--inserts", database],
        env={
            **_database(stack),
            "PATH": "/usr/bin:/bin",
            "PGPASSWORD": stack.secret(f"{database}_db_password"),
        },
        capture_output=True,
        check=True,
    ).stdout
    assert len(found) > 20_000
    return found


def _bucket(stack: Stack) -> dict[str, bytes]:
    keys = stack.s3()
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{stack.places.s3}",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="mlflow")
    names = [each["Key"] for page in pages for each in page["Contents"]]
    return {
        f"s3://mlflow/{name}": s3.get_object(Bucket="mlflow", Key=name)["Body"].read()
        for name in names
    }
