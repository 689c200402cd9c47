"""The packages of the images and of the shared mode are pinned as the project's are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.shared.compose import DOCKER, ROOT

DOCKERFILE = (DOCKER / "Dockerfile").read_text()


def test_the_servers_packages_are_the_projects() -> None:
    fixed = dict(
        line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().split()
    )
    for name in ("docker/requirements.txt", "requirements-s3.txt", "requirements-test.txt"):
        pins = re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)", (ROOT / name).read_text(), re.M)
        assert pins
        for package, version in pins:
            assert fixed[package.lower()] == version, f"{name}: {package}"


def test_boto3_is_of_the_patches_that_aiobotocore_admits() -> None:
    fixed = (ROOT / "constraints.txt").read_text()
    versions = {
        name: tuple(map(int, re.search(rf"^{name}==([\d.]+)$", fixed, re.M)[1].split(".")))  # type: ignore[index]
        for name in ("boto3", "botocore")
    }
    assert versions["boto3"] == versions["botocore"]
    assert (1, 43, 115) <= versions["botocore"] < (1, 43, 118)


def test_the_image_of_workers_leaves_out_the_tools_of_checks(tmp_path: Path) -> None:
    [script] = re.findall(r"sed -i '(.*?)' /build/requirements.txt", DOCKERFILE)
    shutil.copy(ROOT / "requirements.txt", tmp_path / "r.txt")
    subprocess.run(["sed", "-i", script, tmp_path / "r.txt"], check=True)
    left = (tmp_path / "r.txt").read_text()
    assert "torch==" in left
    assert "ninja==" in left
    assert not re.search(r"^(ruff|mypy|pytest|hadolint)", left, re.M)
