"""The text of a VRML 2.0 file to nodes with fields, without a schema of what nodes there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_DEPTH = 100
"""Nodes inside nodes; deeper ones are a file that refers to itself."""

# Strings and comments first, so that no bracket inside them counts. A list without nodes in it
# is one token: most of a file is numbers, which numpy reads far faster than this scanner. Comments
# inside it count as a whole ("*+" gives nothing back), whatever brackets they hold.
_TOKEN = re.compile(
    rb'"(?:[^"\\]|\\.)*"|#[^\n\r]*|\[[^\[\]{}"#]*+(?:#[^\n\r]*+[^\[\]{}"#]*+)*+\]'
    rb'|[{}\[\]]|[^\s,\[\]{}"#]+|"',
    re.DOTALL,
)
_REFERENCES = re.compile(rb"\[(?:[\s,]|#[^\n\r]*)*+(?:USE|NULL)\b")
_SCALAR = re.compile(rb'[-+.\d"]|TRUE$|FALSE$')
_COMMENT = re.compile(rb"#[^\n\r]*")


class VrmlError(ValueError):
    """A file this reader cannot make a surface of; the message says why."""


@dataclass
class Node:
    """A node: what it is, its name by ``DEF``, and the values of the fields that it has."""

    kind: str
    name: str = ""
    fields: dict[str, list[bytes | Node]] = field(default_factory=dict)

    def child(self, key: str) -> Node | None:
        """The node that a field holds."""
        values = self.fields.get(key)
        return values[0] if values and isinstance(values[0], Node) else None

    def children(self, key: str) -> list[Node]:
        """All nodes that a field holds."""
        return [value for value in self.fields.get(key, []) if isinstance(value, Node)]

    def text(self, key: str) -> bytes:
        """A field's values other than nodes, as they are written; lists without their brackets."""
        values = [value for value in self.fields.get(key, []) if isinstance(value, bytes)]
        return values[0] if len(values) == 1 else b" ".join(values)

    def numbers(self, key: str) -> NDArray[np.float64]:
        """A field's numbers (n,)."""
        return to_numbers(self.text(key), key)


class Parser:
    """Tokens to nodes, without a schema: a value is a node if a name and ``{`` begin it.

    A ``USE`` becomes the node that its name stands for at that place, by the last ``DEF`` before
    it: a name may be given to another node later. Where no ``DEF`` precedes it, it stays a ``USE``.
    """

    def __init__(self, text: bytes) -> None:
        self.tokens = [t for t in _TOKEN.findall(text) if t[:1] != b"#"]
        self.at = 0
        self.named: dict[str, Node] = {}

    def scene(self) -> Iterator[Node]:
        """The file's outermost nodes."""
        while self.at < len(self.tokens):
            if self.tokens[self.at] == b"ROUTE":
                self.at += 4
                continue
            yield self._node(0)

    def _take(self) -> bytes:
        if self.at >= len(self.tokens):
            raise VrmlError("ends in the middle of a node: the file is truncated")
        token: bytes = self.tokens[self.at]
        self.at += 1
        return token

    def _peek(self) -> bytes:
        return self.tokens[self.at] if self.at < len(self.tokens) else b""

    def _node(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise VrmlError(f"nodes nest deeper than {MAX_DEPTH}")
        token = self._take()
        if token == b"USE":
            return self._reference(self._take())
        if token == b"NULL":
            return Node("NULL")
        name = ""
        if token == b"DEF":
            name = _word(self._take())
            token = self._take()
        if token in (b"PROTO", b"EXTERNPROTO"):
            raise VrmlError("uses prototypes (PROTO), which this reader does not know")
        if _SCALAR.match(token):
            raise VrmlError("a number where a node should stand: truncated or malformed")
        node = Node(_word(token), name)
        if name:
            self.named[name] = node
        if self._take() != b"{":
            raise VrmlError(f"expected '{{' after {node.kind}")
        while (token := self._take()) != b"}":
            if token == b"ROUTE":
                self.at += 3
                continue
            node.fields[_word(token)] = self._value(depth)
        return node

    def _reference(self, token: bytes) -> Node:
        name = _word(token)
        return self.named.get(name, Node("USE", name))

    def _references(self, token: bytes) -> list[bytes | Node]:
        """The nodes of a list that has references alone, so that no brace is in it."""
        words = iter(_COMMENT.sub(b"", token[1:-1]).replace(b",", b" ").split())
        found: list[bytes | Node] = []
        for word in words:
            if word == b"NULL":
                found.append(Node("NULL"))
            elif word == b"USE" and (name := next(words, None)) is not None:
                found.append(self._reference(name))
            else:
                raise VrmlError("a list of nodes holds something else: the file is malformed")
        return found

    def _value(self, depth: int) -> list[bytes | Node]:
        """Scalars, one bracketed list, or one or more nodes."""
        token = self._peek()
        if token[:1] == b"[":
            self.at += 1
            if _REFERENCES.match(token):
                return self._references(token)
            if token != b"[":
                return [token[1:-1]]
            values: list[bytes | Node] = []
            while self._peek() != b"]":
                quoted = self._peek()[:1] == b'"'
                values.append(self._take() if quoted else self._node(depth + 1))
            self.at += 1
            return values
        if not _SCALAR.match(token):
            return [self._node(depth + 1)]
        scalars: list[bytes | Node] = []
        while _SCALAR.match(self._peek()):
            scalars.append(self._take())
        return scalars


def to_numbers(text: bytes, what: str) -> NDArray[np.float64]:
    """Numbers separated by blanks and commas."""
    if b"#" in text:
        text = _COMMENT.sub(b"", text)
    text = text.replace(b",", b" ").strip()
    if not text:
        return np.empty(0)
    try:
        return np.fromstring(text, sep=" ")
    except (DeprecationWarning, ValueError) as error:
        raise VrmlError(f"{what} holds something that is not a number") from error


def _word(token: bytes) -> str:
    if token[:1] in (b"{", b"}", b"[", b"]", b'"'):
        raise VrmlError(f"unexpected '{token[:20].decode('latin-1')}': the file is malformed")
    return token.decode("utf-8", "replace")
