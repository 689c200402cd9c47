"""The Kubernetes manifests: what they name is there and fits together. No cluster was asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shared.compose import COMPOSE, DOCKER

HERE = DOCKER / "kubernetes"
DOCUMENTS: dict[str, dict[str, Any]] = {
    f"{path.name}:{document['kind']}/{document['metadata']['name']}": document
    for path in sorted(HERE.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
}
TEMPLATE: dict[str, Any] = json.loads((HERE / "job-template.json").read_text())
JOB = TEMPLATE["job_configuration"]["job_manifest"]
VERSIONS = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "PersistentVolumeClaim": "v1",
    "Service": "v1",
}
# made from docker/quiet.env and docker/secrets, as docs/scaling.md says
MADE_BY_HAND = {"sa3d-quiet", "sa3d-client"}


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, document in DOCUMENTS.items():
        if "template" in document.get("spec", {}):
            yield name, document["spec"]["template"]["spec"]
    yield "job-template.json", JOB["spec"]["template"]["spec"]


PODS = dict(pods())


def names(kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in DOCUMENTS.values() if each["kind"] == kind}


def test_all_of_them_are_read() -> None:
    assert len(PODS) == 4
    for document in [*DOCUMENTS.values(), JOB]:
        assert document["apiVersion"] == VERSIONS[document["kind"]]


@pytest.mark.parametrize("name", PODS)
def test_what_a_pod_mounts_and_reads_is_there(name: str) -> None:
    pod = PODS[name]
    [container] = pod["containers"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == set(volumes)
    for volume in volumes.values():
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        assert claim is None or claim in names("PersistentVolumeClaim")
        secret = volume.get("secret", {}).get("secretName")
        assert secret is None or secret in MADE_BY_HAND
    maps = {each["configMapRef"]["name"] for each in container["envFrom"]}
    assert maps <= names("ConfigMap") | MADE_BY_HAND
    folders = {each["mountPath"] for each in container["volumeMounts"]}
    assert {"/app/data", "/app/work", "/run/secrets", "/dev/shm"} <= folders


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_rights_that_it_does_not_need(name: str) -> None:
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001, "that of the images"
    [container] = pod["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["terminationGracePeriodSeconds"] == 120, "as in compose.yaml"


def test_selectors_find_their_pods() -> None:
    for name, document in DOCUMENTS.items():
        spec = document.get("spec", {})
        if document["kind"] == "Deployment":
            assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"], name
        if document["kind"] == "Service":
            jobs = [each for each in DOCUMENTS.values() if each["kind"] == "Job"]
            assert [each["spec"]["template"]["metadata"]["labels"] for each in jobs] == [
                spec["selector"]
            ]


def test_workers_are_those_of_compose() -> None:
    commands = {
        name: [
            str(word) for word in PODS[f"workers.yaml:Deployment/{name}"]["containers"][0]["args"]
        ]
        for name in ("sa3d-orchestrator", "sa3d-gpu")
    }
    for name, service in (("sa3d-orchestrator", "orchestrator"), ("sa3d-gpu", "worker-gpu")):
        expected = [
            "$(POD_NAME)" if word in ("orchestrator", "gpu0") and before == "--name" else word
            for before, word in zip(
                ["", *COMPOSE["services"][service]["command"]],
                COMPOSE["services"][service]["command"],
                strict=False,
            )
        ]
        assert commands[name] == expected
    [gpu] = PODS["workers.yaml:Deployment/sa3d-gpu"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
    images = {service["image"] for service in COMPOSE["services"].values()}
    assert {pod["containers"][0]["image"] for pod in PODS.values()} <= images | {"{{ image }}"}


def test_clients_are_told_what_compose_tells_them() -> None:
    told = DOCUMENTS["client.yaml:ConfigMap/sa3d-client"]["data"]
    assert set(told) == set(COMPOSE["services"]["worker-gpu"]["environment"])
    assert all(isinstance(value, str) for value in told.values())


def test_the_job_template_fills_every_variable_that_it_declares() -> None:
    text = json.dumps(TEMPLATE["job_configuration"])
    used = set(re.findall(r"\{\{ (\w+) \}\}", text))
    assert used == set(TEMPLATE["variables"]["properties"])
    assert len(re.findall(r"\{\{", text)) == len(re.findall(r"\{\{ \w+ \}\}", text))


def test_storage_can_be_shared() -> None:
    claims = [each for each in DOCUMENTS.values() if each["kind"] == "PersistentVolumeClaim"]
    assert {str(each["spec"]["accessModes"]) for each in claims} == {"['ReadWriteMany']"}


def test_nodes_of_torchrun_find_each_other() -> None:
    job = DOCUMENTS["torchrun.yaml:Job/sa3d-torchrun"]["spec"]
    service = DOCUMENTS["torchrun.yaml:Service/sa3d-torchrun"]
    pod = job["template"]["spec"]
    words = {w.split("=")[0]: w.partition("=")[2] for w in pod["containers"][0]["args"]}
    assert job["completionMode"] == "Indexed"
    assert int(words["--nnodes"]) == job["completions"] == job["parallelism"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert words["--master-addr"] == f"sa3d-torchrun-0.{pod['subdomain']}"
    assert int(words["--master-port"]) == service["spec"]["ports"][0]["port"]
    gpus = pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    assert words["--nproc-per-node"] == gpus


def test_manifests_hold_no_password() -> None:
    for path in HERE.iterdir():
        text = Path(path).read_text()
        assert not re.search(r"(?i)(password|secret_key|auth_string): *[\"']?\w", text), path.name
