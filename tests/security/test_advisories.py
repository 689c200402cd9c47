"""The versions that are pinned are not older than the fixes that docs/security.md names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PINS = {
    name.lower(): Version(version)
    for name, version in (
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split()
    )
}


def table() -> list[tuple[str, str, str, str]]:
    """Advisory, package, fixed version and what is done, of each row."""
    text = (ROOT / "docs" / "security.md").read_text()
    rows = text.split("| advisory | package |")[1].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row]
    return [(each[0], each[1], each[3], each[4]) for each in cells]


def test_the_table_is_read() -> None:
    rows = table()
    assert len(rows) >= 12
    assert all(re.match(r"(CVE-\d{4}-\d+|GHSA-)", each[0]) for each in rows)
    assert {each[1] for each in rows} == {"prefect", "prefect-github", "mlflow", "diskcache"}


@pytest.mark.parametrize(("advisory", "package", "fixed", "here"), table())
def test_a_fix_is_in(advisory: str, package: str, fixed: str, here: str) -> None:
    if here.startswith("not installed"):
        assert package not in PINS
    elif fixed == "–":
        assert package in PINS
        assert "pinned above" not in here, "there is no version to be above"
        assert len(here) > 5, "what is done instead"
    else:
        assert PINS[package] >= Version(fixed), advisory
        assert here.startswith("pinned above")


def test_what_the_table_says_is_set() -> None:
    quiet = (ROOT / "docker" / "quiet.env").read_text()
    compose = (ROOT / "docker" / "compose.yaml").read_text()
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false" in quiet
    assert "PREFECT_SERVER_CORS_ALLOWED_ORIGINS: http://" in compose
    assert "DISABLE_SECURITY_MIDDLEWARE" not in compose + quiet
    assert "site_cache_dir" in (ROOT / "Makefile").read_text()
    # without it, packages that were not looked up count as good
    assert "pip-audit --strict" in (ROOT / "Makefile").read_text()
