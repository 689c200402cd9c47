"""No file of the repository holds a credential."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = {
    "AWS key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{30,}|glpat-[\w-]{20,}|hf_[A-Za-z0-9]{30,})"),
    "password in an address": re.compile(r"\w://[^\s/:@'\"`{]+:[^\s/@'\"`{]+@[\w\[]"),
    "password": re.compile(
        r"(?i)(password|passwd|secret_key|auth_string|access_key)\w*['\"]?\s*[:=]\s*['\"]?"
        r"(?!/)(?=[\w+/-]*\d)[\w+/-]{16,}"
    ),
}


def found_in(text: str) -> list[str]:
    return [name for name, pattern in PATTERNS.items() if pattern.search(text)]


def test_files_that_git_tracks() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    # tests plant credentials to look for them
    files = [ROOT / name for name in listed.split("\0") if name and not name.startswith("tests/")]
    assert len(files) > 300
    bad = {
        str(path.relative_to(ROOT)): kinds
        for path in files
        if path.is_file() and (kinds := found_in(path.read_bytes().decode(errors="replace")))
    }
    assert bad == {}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("key = AKIA" + "ABCDEFGH12345678", "AWS key"),
        ("-----BEGIN RSA PRIVATE " + "KEY-----", "private key"),
        ("url: https://ann:s3cret@host/x", "password in an address"),
        ("MLFLOW_TRACKING_PASSWORD=0123456789abcdef01", "password"),
        ('"aws_secret_access_key": "abcd1234abcd1234/x"', "password"),
    ],
)
def test_the_patterns_see_what_they_look_for(text: str, kind: str) -> None:
    assert found_in(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "MLFLOW_AUTH_ADMIN_PASSWORD_FILE: /run/secrets/mlflow_admin_password",
        "https://host:5000/path@v1",
        "http://user:password@…",
        "PGPASSWORD: ${PGPASSWORD}",
    ],
)
def test_names_and_places_are_no_credentials(text: str) -> None:
    assert found_in(text) == []
