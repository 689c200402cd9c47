"""The images and the compose file, as far as can be known without an engine."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import Settings, legacy

from tests.shared.compose import COMPOSE, DOCKER, ROOT

SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
OURS = {name: each for name, each in SERVICES.items() if each["image"].startswith("sa3d-")}
TOOLS = Path(sys.executable).parent


def environment(name: str) -> dict[str, str]:
    return dict(SERVICES[name].get("environment", {}))


def instructions() -> list[list[str]]:
    """The Dockerfile's lines as words, continued ones joined."""
    joined = re.sub(r"\\\n", " ", DOCKERFILE)
    lines = [line.strip() for line in joined.splitlines()]
    return [shlex.split(line) for line in lines if line and not line.startswith("#")]


def copied() -> list[str]:
    """What COPY takes from the context."""
    found = []
    for word, *rest in instructions():
        if word == "COPY" and not rest[0].startswith("--from"):
            found += rest[:-1]
    return found


def test_the_compose_file_follows_its_schema(tmp_path: Path) -> None:
    def check(path: Path) -> int:
        words = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path]
        return subprocess.run(words, capture_output=True, check=False).returncode

    assert check(DOCKER / "compose.yaml") == 0
    wrong = (DOCKER / "compose.yaml").read_text().replace("depends_on:", "depend_on:", 1)
    (tmp_path / "compose.yaml").write_text(wrong)
    assert check(tmp_path / "compose.yaml") == 1


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    def lint(path: Path) -> str:
        words = [TOOLS / "hadolint", "--no-color", path]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    assert lint(DOCKER / "Dockerfile") == ""
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /x && pip install y\n")
    assert "DL3006" in lint(tmp_path / "Dockerfile")


def test_shell_scripts_parse() -> None:
    scripts = sorted(DOCKER.glob("*.sh"))
    assert len(scripts) == 4
    for script in scripts:
        subprocess.run(["sh", "-n", script], check=True)
        assert os.access(script, os.X_OK)
        assert script.read_text().startswith("#!/bin/sh\n")


def test_images_are_pinned_and_run_as_nobody_special() -> None:
    images = [each["image"] for each in SERVICES.values()]
    images += re.findall(r"^ARG PYTHON_IMAGE=(.*)$", DOCKERFILE, re.MULTILINE)
    assert len(images) == len(SERVICES) + 1
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), image
    for target in ("server", "cpu", "cuda"):
        block = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
        assert "\nUSER 10001:10001" in f"\n{block}", target
    assert {each["build"]["target"] for each in OURS.values()} == {"server", "cpu", "cuda"}


def test_python_is_the_one_that_is_tested() -> None:
    [version] = re.findall(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)\.", DOCKERFILE, re.MULTILINE)
    assert version == "3.11"
    assert "PYTHON ?= python3.11" in (ROOT / "Makefile").read_text()


def test_what_the_images_copy_is_there_and_let_through() -> None:
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert copied()
    for pattern in copied():
        matched = list(ROOT.glob(pattern))
        assert matched, f"COPY {pattern}: nothing there"
    for pattern in copied():
        if "*" not in pattern:
            assert any(pattern == each or pattern.startswith(f"{each}/") for each in allowed), (
                f"COPY {pattern}: .dockerignore keeps it out"
            )


@pytest.mark.parametrize(
    "path",
    [
        "docker/secrets/postgres_password",
        "data/raw/kicad/kicad.deb",
        "data/processed/shapes.h5",
        "work/pretrain-x/last.pt",
        "mlflow.db",
        "mlartifacts/1/x",
        ".git/config",
        ".dvc/config.local",
        ".dvc/cache/files/md5/00/1",
        ".env",
        ".venv/bin/python",
        "reports/demo/report.html",
        "extensions/build/lib/x.o",
        "sa3d/cli/__pycache__/main.cpython-311.pyc",
    ],
)
def test_data_runs_and_secrets_stay_out_of_the_images(path: str) -> None:
    assert not let_through(path)


def test_code_goes_into_the_images() -> None:
    for path in ("sa3d/cli/main.py", "extensions/csrc/knn.cpp", "docker/quiet.env", ".dvc/config"):
        assert let_through(path)


def let_through(path: str) -> bool:
    """Whether .dockerignore lets a file of the context through: the last line that fits decides,
    and a line that fits a folder fits what is in it."""
    found = True
    parents = [path, *map(str, Path(path).parents)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        names = [pattern, pattern.removeprefix("**/")]
        if any(
            fnmatch(each, name) or (pattern.startswith("**/") and fnmatch(Path(each).name, name))
            for each in parents
            for name in names
        ):
            found = line.startswith("!")
    return found


def test_every_secret_is_made_read_and_kept_out_of_git(tmp_path: Path) -> None:
    declared = COMPOSE["secrets"]
    subprocess.run([DOCKER / "secrets.sh", tmp_path / "made"], check=True, capture_output=True)
    made = {each.name: each.read_text() for each in (tmp_path / "made").iterdir()}
    assert set(made) == set(declared)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    assert all(len(text) >= 20 and text.isprintable() for text in made.values())
    assert len(set(made.values())) == len(made)
    subprocess.run([DOCKER / "secrets.sh", tmp_path / "made"], check=True, capture_output=True)
    assert {each.name: each.read_text() for each in (tmp_path / "made").iterdir()} == made, "kept"
    readme = (DOCKER / "secrets" / "README.md").read_text()
    used = {secret for each in SERVICES.values() for secret in each.get("secrets", ())}
    for name, where in declared.items():
        assert where == {"file": f"secrets/{name}"}
        assert name in used
        assert f"`{name}`" in readme
        asked = ["git", "check-ignore", "-q", f"docker/secrets/{name}"]
        assert subprocess.run(asked, cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_given_the_secrets_that_it_reads(name: str) -> None:
    text = yaml.safe_dump(SERVICES[name])
    read = set(re.findall(r"/run/secrets/(\w+)", text))
    assert read == set(SERVICES[name].get("secrets", ()))


def test_secrets_are_read_from_files_alone() -> None:
    [handled] = re.findall(r"for name in (.*?); do", (DOCKER / "entrypoint.sh").read_text(), re.S)
    names = set(handled.replace("\\", "").split())
    for service in OURS:
        found = {key for key in environment(service) if key.endswith("_FILE")}
        assert found <= {f"{name}_FILE" for name in names}, service
        assert not names & set(environment(service)), service
    used = {key for service in OURS for key in environment(service)}
    assert {f"{name}_FILE" for name in names} <= used, "a secret that no service reads"


def known_names() -> set[str]:
    """Variables that this Prefect and this MLflow read."""
    found = importlib.util.find_spec("mlflow")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent  # read, not imported: that takes seconds
    sources = [package / "environment_variables.py", *package.glob("cli/__init__.py")]
    sources += package.glob("utils/cli_args.py")
    text = "\n".join(each.read_text() for each in sources)
    names = set(re.findall(r'^(MLFLOW_\w+) = |envvar="(MLFLOW_\w+)"', text, re.M))
    settings = legacy._get_settings_fields(Settings)
    return {each for pair in names for each in pair} | {name.upper() for name in settings}


def test_every_setting_of_prefect_and_mlflow_exists() -> None:
    known = known_names()
    assert {
        "PREFECT_API_URL",
        "MLFLOW_SERVER_ALLOWED_HOSTS",
        "MLFLOW_ARTIFACTS_DESTINATION",
    } <= known
    quiet = re.findall(r"^(\w+)=", (DOCKER / "quiet.env").read_text(), re.MULTILINE)
    asked = {*quiet, *(key for service in SERVICES for key in environment(service))}
    asked = {key.removesuffix("_FILE") for key in asked}
    asked = {key for key in asked if key.startswith(("PREFECT_", "MLFLOW_"))}
    assert len(asked) > 20
    # read by docker/databases.sh
    assert asked - known == {"PREFECT_DB_PASSWORD", "MLFLOW_DB_PASSWORD"}


def test_only_this_machine_is_listened_on() -> None:
    published = [port for each in SERVICES.values() for port in each.get("ports", ())]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == ["back"]
    for name, each in SERVICES.items():
        assert "privileged" not in each
        assert "network_mode" not in each
        assert "no-new-privileges:true" in each["security_opt"], name
    assert all(each["cap_drop"] == ["ALL"] for each in OURS.values())


def test_names_in_addresses_are_services_with_a_network_in_common() -> None:
    for name, each in SERVICES.items():
        for host, port in re.findall(r"http://(\w[\w.-]*):(\d+)", yaml.safe_dump(each)):
            if host in ("localhost", "127.0.0.1"):
                continue
            assert host in SERVICES, f"{name} asks {host}"
            assert set(each["networks"]) & set(SERVICES[host]["networks"]), f"{name} to {host}"
            listens = [p.rsplit(":", 1)[1] for p in SERVICES[host]["ports"]]
            assert port in listens
    assert environment("mlflow")["PGHOST"] == "postgres"
    assert environment("prefect")["PREFECT_SERVER_DATABASE_HOST"] == "postgres"


def test_mlflow_lets_in_whoever_asks_by_a_name_that_is_used() -> None:
    hosts = environment("mlflow")["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    used = {
        address.removeprefix("http://").rstrip("/")
        for name in SERVICES
        if (address := environment(name).get("MLFLOW_TRACKING_URI"))
    }
    *_, checked, status = SERVICES["mlflow"]["healthcheck"]["test"]
    used.add(checked.removeprefix("http://").split("/")[0])
    assert used == {"mlflow:5000"}
    assert used <= set(hosts)
    assert status == "401", "a check that succeeds without a password would not notice that"


def test_databases_and_buckets_are_those_that_are_made() -> None:
    made = set(re.findall(r"^CREATE DATABASE (\w+) ", (DOCKER / "databases.sh").read_text(), re.M))
    auth = re.search(
        r"^database_uri = \S+///(\w+)$", (DOCKER / "mlflow-auth.ini").read_text(), re.M
    )
    assert auth is not None
    store = environment("mlflow")["MLFLOW_BACKEND_STORE_URI"]
    assert made == {
        environment("prefect")["PREFECT_SERVER_DATABASE_NAME"],
        store.rpartition("/")[2],
        auth[1],
    }
    bucket = environment("mlflow")["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://")
    assert bucket in SERVICES["buckets"]["command"]


def test_workers_by_profile() -> None:
    def of(profile: str) -> set[str]:
        return {n for n, each in SERVICES.items() if profile in each.get("profiles", [profile])}

    servers = {"postgres", "s3", "buckets", "mlflow", "prefect"}
    assert {n for n, each in SERVICES.items() if "profiles" not in each} == servers
    assert of("cpu") - servers == {"register", "orchestrator", "worker-cpu"}
    assert of("gpu") - servers == {"register", "orchestrator", "worker-gpu"}
    for name in ("orchestrator", "worker-cpu", "worker-gpu"):
        each = SERVICES[name]
        assert each["stop_grace_period"] == "2m"
        assert each["init"] is True
        assert each["depends_on"]["register"] == {"condition": "service_completed_successfully"}
    pools = set(
        re.findall(r"for pool in (.*); do", (DOCKER / "register.sh").read_text())[0].split()
    )
    commands = [" ".join(each["command"]) for each in SERVICES.values() if "command" in each]
    assert pools == {m for c in commands for m in re.findall(r"--pool (\S+)", c)}
    assert "--pool gpu --limit 1" in " ".join(SERVICES["worker-gpu"]["command"])


def test_what_waits_for_a_service_waits_for_a_check_that_exists() -> None:
    for name, each in SERVICES.items():
        for other, how in each.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"
            else:
                assert how == {"condition": "service_completed_successfully"}
                assert SERVICES[other]["restart"] == "no"


def test_volumes_are_mounted_on_folders_of_the_image_that_its_user_owns() -> None:
    [made] = re.findall(r"install -d -o sa3d -g sa3d (.*?)\n\w", DOCKERFILE, re.S)
    folders = made.replace("\\", "").split()
    for name in ("orchestrator", "worker-cpu", "worker-gpu"):
        for volume in SERVICES[name]["volumes"]:
            source, target = volume.split(":")
            assert source in COMPOSE["volumes"]
            assert target in folders, f"{target} would belong to root"
