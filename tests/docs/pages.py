"""The code blocks of every page of the documentation site, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import yaml
from markdown_it import MarkdownIt

from docsite import links

ROOT = links.ROOT
NOT_RUN = Path(__file__).with_name("not_run.yaml")
SHELL = "bash"
RUN = (SHELL, "console", "python", "pycon")  # what can be run
_SEPARATORS = frozenset("();<>|&")


class Block(NamedTuple):
    """A block of code.

    Attributes:
        page: path of its file in the repository.
        line: where it begins, from 1.
        language: what its fence says; empty: nothing, or it has no fence.
        text: what is in it.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, without what follows a blank and a ``#``."""
        return re.split(r"\s+#", self.text.splitlines()[0])[0]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class Excuse(NamedTuple):
    """Why a block is not run.

    Attributes:
        page: path of its file.
        first: its first line; ``*``: every block of the page.
        why: a reason of ``not_run.yaml``.
        test: where it is run otherwise.
    """

    page: str
    first: str
    why: str
    test: str

    def covers(self, block: Block) -> bool:
        """Whether it is of this block."""
        return self.page == block.page and self.first in ("*", block.first)


def pages() -> list[str]:
    """Every file that the site shows: README, ``docs/`` and what these link."""
    own = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
    own = [page for page in own if not page.endswith("/report.md")]  # made by a run
    linked = [each for each in links.all_linked([links.HOME, *own]) if each.endswith(".md")]
    return [links.HOME, *own, *linked]


def blocks() -> list[Block]:
    """All blocks of all pages."""
    found = []
    for page in pages():
        for token in MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8")):
            if token.type in ("fence", "code_block"):
                assert token.map is not None
                language = token.info.split()[0] if token.info.strip() else ""
                found.append(Block(page, token.map[0] + 1, language, token.content))
    return found


def excuses() -> list[Excuse]:
    """The entries of ``not_run.yaml``."""
    tree = yaml.safe_load(NOT_RUN.read_text(encoding="utf-8"))
    return [
        Excuse(page, each["block"], each["why"], each.get("test", ""))
        for page, entries in tree["pages"].items()
        for each in entries
    ]


def reasons() -> dict[str, str]:
    """The reasons that an entry may have, each with what it means."""
    found: dict[str, str] = yaml.safe_load(NOT_RUN.read_text(encoding="utf-8"))["reasons"]
    return found


def commands(text: str) -> list[list[str]]:
    """The words of each command of a shell's text, without redirections and variables before it."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found: list[list[str]] = []
    for line in joined.splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        own: list[str] = []
        skip = False
        for word in words:
            if set(word) <= _SEPARATORS:
                skip = set(word) <= set("<>")
                if not skip:
                    found.append(own)
                    own = []
            elif skip:
                skip = False
            else:
                own.append(word)
        found.append(own)
    return [words for words in map(_without_variables, found) if words]


def _without_variables(words: list[str]) -> list[str]:
    start = 0
    while start < len(words) and re.match(r"\w+=", words[start]):
        start += 1
    return words[start:]
