"""The documentation site: everything on it is explained, and it is whole without any other host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from docsite import commands, links, settings
from docsite.links import ROOT, LinkError
from sa3d import registry
from sa3d.config.base import Frozen

PAGES = settings.pages()
TABLES = [table for page in PAGES for table in page.tables]
PROGRAMS = commands.programs()


# --- the reference, from the code -----------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.model.__name__)
def test_a_setting_says_what_it_means(table: settings.Table) -> None:
    for key, facts in table.model.model_fields.items():
        assert facts.description, f"{table.model.__name__}.{key} has no description"


def test_every_component_of_the_registry_has_its_table() -> None:
    shown = {table.model for table in TABLES}
    for kind in (registry.BACKBONES, registry.METHODS, registry.MASKS, registry.SOURCES):
        for name in kind:
            assert registry.settings_of(kind, "component", name) in shown  # type: ignore[arg-type]
    for name in registry.downstream():
        assert registry.task(name).settings in shown


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.words)
def test_a_command_and_its_options_say_what_they_do(program: commands.Program) -> None:
    inside = getattr(program.command, "commands", {}).values() or [program.command]
    for each in inside:
        assert each.help, program.words
        for parameter in each.params:
            assert parameter.help, f"{program.words} {parameter.name}"


def test_every_command_is_there() -> None:
    words = {program.words for program in PROGRAMS}
    named = re.findall(r"python -m (flows\.[a-z_]+)", (ROOT / "docs/flows.md").read_text())
    assert len(set(named)) >= 5
    assert {f"python -m {name}" for name in named} | {"python -m flows.stack"} <= words
    assert {f"sa3d {name}" for name in ("pretrain", "svm", "embed", "data", "doctor")} <= words


class _Inner(Frozen):
    """Inside."""

    deep: bool = Field(True, description="below")


class _Sample(Frozen):
    """First sentence.

    More of it.
    """

    count: int = Field(gt=0, description="how many")
    share: float | None = Field(None, ge=0.0, lt=1.0, description="a | b")
    kind: Literal["x", "y"] = Field("x", description="which")
    inner: _Inner = Field(_Inner(), description="more")
    pair: tuple[int, float] = Field((1, 0.5), description="two")


def test_a_table_of_settings_as_it_is_written() -> None:
    page = settings.Page("sample", "Sample", "For the test.", [settings.Table("`s`", _Sample)])
    assert settings.text(page).splitlines() == [
        "# Sample",
        "",
        "For the test.",
        "",
        "## `s`",
        "",
        "First sentence.",
        "",
        "| key | value | default | meaning |",
        "|---|---|---|---|",
        "| `count` | whole number > 0 | required | how many |",
        "| `share` | number ≥ 0, < 1 or `null` | `null` | a \\| b |",
        "| `kind` | `x` `y` | `x` | which |",
        '| `inner` | mapping | `{"deep": true}` | more |',
        "| `pair` | list of 2: whole number, number | `[1, 0.5]` | two |",
    ]


def test_the_page_of_a_command_as_it_is_written() -> None:
    (rollback,) = (each for each in PROGRAMS if each.words == "sa3d rollback")
    page = commands.page(rollback)
    assert page.startswith("# `sa3d rollback`\n")
    assert "\nsa3d rollback [OPTIONS] NAME\n" in page
    (svm,) = (each for each in PROGRAMS if each.words == "sa3d svm")
    assert "| `--set KEY=VALUE` |  | Override a setting; may be repeated. |" in commands.page(svm)
    assert "| `--experiment TEXT`, `-e` | `demo` | Name under" in commands.page(svm)


# --- links out of docs/ ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("docs/a.md", "[p](../params.yaml)", "[p](repository/params.yaml.md)"),
        ("docs/results/kicad/README.md", "[d](../../../data/README.md)",
         "[d](../../repository/data/README.md)"),
        ("docs/a.md", "[r](../README.md#two-commands)", "[r](index.md#two-commands)"),
        ("docs/a.md", "[b](b.md) [w](https://example.org/x)", None),
        ("README.md", "[m](docs/method.md) ![i](docs/images/run.png)",
         "[m](method.md) ![i](images/run.png)"),
        ("data/README.md", "[s](../docs/data_sets.md#layouts)", "[s](../../data_sets.md#layouts)"),
        ("docs/a.md", "```text\n[p](../nowhere)\n```\n", None),
    ],
)  # fmt: skip
def test_a_link_is_made_to_hold_on_the_site(page: str, before: str, after: str | None) -> None:
    assert links.rewritten(before, page) == (before if after is None else after)


@pytest.mark.parametrize("target", ["../nowhere.yaml", "../sa3d"])
def test_a_link_to_nothing_is_refused(target: str) -> None:
    with pytest.raises(LinkError, match=re.escape(target)):
        links.rewritten(f"[x]({target})", "docs/a.md")


# --- the site itself ------------------------------------------------------------------------------


class _Loads(HTMLParser):
    """What a page loads by itself, and what it links."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: dict[str, Any] = dict(attrs)
        if tag == "link" and given.get("rel") not in ("prev", "next", "canonical"):
            self.loads.append(given.get("href", ""))
        elif tag == "a":
            self.links.append(given.get("href", ""))
        else:
            self.loads += [given[key] for key in ("src", "srcset", "poster") if given.get(key)]


def _read(site: Path) -> Iterator[tuple[Path, _Loads]]:
    for path in sorted(site.rglob("*.html")):
        page = _Loads()
        page.feed(path.read_text(encoding="utf-8"))
        yield path, page


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_another_host(site: Path) -> None:
    seen = 0
    for path, page in _read(site):
        for address in page.loads:
            assert not re.match(r"(https?:)?//", address), f"{path}: {address}"
        seen += len(page.loads)
    assert seen > 100
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", text), sheet


@pytest.mark.slow
def test_every_command_setting_and_object_has_its_place(site: Path) -> None:
    for program in PROGRAMS:
        assert (site / "reference/commands" / program.slug / "index.html").is_file()
    methods = (site / "reference/settings/methods/index.html").read_text()
    assert "end of the cosine" in methods
    api = (site / "reference/api/sa3d/index.html").read_text()
    assert 'id="sa3d.inference.encoder.Encoder.embed"' in api
    assert "(B, D), B = 1 for a single cloud" in api
    kernels = (site / "reference/api/point_ops/index.html").read_text()
    assert 'id="point_ops.knn.knn"' in kernels
    assert ":class:" not in methods + api + kernels
