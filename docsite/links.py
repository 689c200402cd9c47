"""Links that lead out of ``docs/``: they hold in the repository, and here they are made to hold on
the site, which gets a page for every file that is linked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
HOME: Final = "README.md"
_TARGET: Final = re.compile(r"(?<=\]\()([^)\s#]+)(?=[#)])")
_FENCE: Final = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
# how the text of a file is coloured
_LANGUAGES: Final = {"Makefile": "makefile", ".yaml": "yaml", ".py": "python", ".toml": "toml"}


class LinkError(Exception):
    """A link to nothing."""


def on_site(path: str) -> str:
    """Where the site has a file of the repository: the source of its page, from ``docs/``."""
    if path == HOME:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"


def rewritten(markdown: str, path: str) -> str:
    """The text of a page with its links as the site needs them.

    Args:
        markdown: the text.
        path: of its file in the repository.

    Raises:
        LinkError: a link to a file that is not there, or to a folder.
    """
    here = posixpath.dirname(on_site(path)) or "."

    def moved(found: re.Match[str]) -> str:
        target = _in_repository(found[1], path)
        return found[1] if target is None else posixpath.relpath(on_site(target), here)

    return _outside_of_code(markdown, moved)


def linked(markdown: str, path: str) -> set[str]:
    """The files of the repository outside of ``docs/`` that a text links."""
    found: set[str] = set()

    def note(match: re.Match[str]) -> str:
        target = _in_repository(match[1], path)
        if target is not None and not target.startswith("docs/") and target != HOME:
            found.add(target)
        return match[1]

    _outside_of_code(markdown, note)
    return found


def all_linked(pages: Iterable[str]) -> list[str]:
    """Files outside of ``docs/`` that these files link, and those that these link, and so on."""
    waiting, done = list(pages), set[str]()
    while waiting:
        page = waiting.pop()
        new = linked((ROOT / page).read_text(encoding="utf-8"), page) - done
        done |= new
        waiting += [each for each in new if each.endswith(".md")]
    return sorted(done)


def page_of(path: str) -> str:
    """The text of the page for a file of the repository outside of ``docs/``."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return rewritten(text, path)
    name = posixpath.basename(path)
    language = _LANGUAGES.get(name) or _LANGUAGES.get(posixpath.splitext(name)[1], "text")
    return f"# {path}\n\n````{language}\n{text.rstrip()}\n````\n"


def _in_repository(target: str, path: str) -> str | None:
    """The path in the repository that a link of the file ``path`` leads to; None: the site has it
    at the same place, or it is an address."""
    if re.match(r"[a-z]+:", target) or target.startswith("/"):
        return None
    found = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if found.startswith("docs/") and path.startswith("docs/"):
        return None  # mkdocs checks these itself
    if not (ROOT / found).is_file():
        raise LinkError(f"{path} links {target}: {found} is no file")
    return found


def _outside_of_code(markdown: str, replace: Callable[[re.Match[str]], str]) -> str:
    parts, at = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_TARGET.sub(replace, markdown[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, _TARGET.sub(replace, markdown[at:])])
