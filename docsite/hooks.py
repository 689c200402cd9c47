"""The hooks that ``mkdocs.yml`` names: generated pages, links out of ``docs/``, docstrings."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # mkdocs reads this file by its path

from docsite import api, commands, links, settings

# of the home page, whose navigation would hold nothing but its own name
_ALONE: Final = "---\nhide: [navigation]\n---\n\n"
# ":class:`~sa3d.data.mesh.Mesh`" of a docstring, as it looks when Markdown has read it
_ROLE: Final = re.compile(r":(?:class|func|meth|mod|attr|data):<code>~?([\w.]+)</code>")


def _generated() -> dict[str, tuple[str, str]]:
    """Title and text of each page that is made from the code, by its place below ``docs/``."""
    found = {}
    for program in commands.programs():
        place = f"reference/commands/{program.slug}.md"
        found[place] = (program.words, commands.page(program))
    found["reference/commands/make.md"] = ("make", commands.make_page())
    for each in settings.pages():
        found[f"reference/settings/{each.name}.md"] = (each.title, settings.text(each))
    for part in api.pages():
        found[f"reference/api/{part.name}.md"] = (part.title, api.text(part))
    return found


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages where the navigation names their folder."""
    assert config.nav is not None
    config.nav = _filled(config.nav, {place: title for place, (title, _) in _generated().items()})
    return config


def _filled(nav: Any, titles: dict[str, str]) -> Any:
    if isinstance(nav, list):
        return [_filled(each, titles) for each in nav]
    if isinstance(nav, dict):
        return {key: _filled(each, titles) for key, each in nav.items()}
    if not nav.endswith("/"):
        return nav
    found = [{title: place} for place, title in titles.items() if place.startswith(nav)]
    if not found:
        raise PluginError(f"mkdocs.yml: nothing is generated in {nav}")
    return found


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are generated, the home page and those of linked files."""
    own = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    home = (links.ROOT / links.HOME).read_text(encoding="utf-8")
    texts = {place: text for place, (_, text) in _generated().items()}
    try:
        texts["index.md"] = _ALONE + links.rewritten(home, links.HOME)
        for path in links.all_linked([links.HOME, *own]):
            texts[links.on_site(path)] = links.page_of(path)
    except links.LinkError as error:
        raise PluginError(str(error)) from None
    for place, text in texts.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of a page of ``docs/`` to files elsewhere."""
    if page.file.generated_by is not None:
        return markdown
    try:
        return links.rewritten(markdown, f"docs/{page.file.src_uri}")
    except links.LinkError as error:
        raise PluginError(str(error)) from None


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Names in docstrings as links, where the site has what they name."""

    def link(found: re.Match[str]) -> str:
        name = found[1]
        short = name.rpartition(".")[2]
        return f'<autoref identifier="{name}" optional><code>{short}</code></autoref>'

    return _ROLE.sub(link, html)
