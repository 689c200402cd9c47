"""Reads a written report as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

LOADS = {"src", "srcset", "poster", "data", "action", "background"}


class Page(HTMLParser):
    """Text, addresses that a browser would load, links and ids."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.text, self.loads, self.links, self.ids, self._skip = [], [], [], [], False
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self._skip = tag in ("style", "script")
        for key, value in attrs:
            if key in LOADS or (key == "href" and tag != "a"):
                self.loads.append(value or "")
            elif key == "href":
                self.links.append(value or "")
            elif key == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        self._skip = False

    def handle_data(self, data):
        if not self._skip:
            self.text.append(data)

    @property
    def words(self) -> str:
        plain = " ".join(self.text).replace("\u00a0", " ").replace("\u2011", "-")
        return " ".join(plain.split())
