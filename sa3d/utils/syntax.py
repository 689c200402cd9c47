"""What Python source means, without what does not change it. Needs nothing but Python."""

from __future__ import annotations

import ast
from typing import Any


def meaning(source: bytes) -> bytes:
    """The syntax tree of a source file as bytes, the same under every version of Python that reads
    it: no comments, no layout, no docstrings (of attributes neither).

    Python's own ways to write a tree down, ``ast.dump`` and ``ast.unparse``, change with its
    version: later ones have more fields, and other quotes within f-strings.
    """
    return repr(_tree(_Bare().visit(ast.parse(source)))).encode()


class _Bare(ast.NodeTransformer):
    """Takes out statements that are nothing but a text."""

    def visit(self, node: ast.AST) -> Any:
        return node if isinstance(node, ast.expr) else super().visit(node)  # they are not inside

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


def _tree(node: Any) -> Any:
    """Nested tuples of names and values; fields that are empty are left out, as a version of Python
    that does not know them would."""
    if isinstance(node, ast.AST):
        if isinstance(node, ast.JoinedStr):  # Python 3.12.1 puts empty texts between its parts
            node.values = [each for each in node.values if getattr(each, "value", None) != ""]
        fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        return (type(node).__name__, *((name, _tree(value)) for name, value in fields))
    if isinstance(node, list):
        return tuple(map(_tree, node))
    return node
