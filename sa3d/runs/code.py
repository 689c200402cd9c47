"""A hash of the code that a run's result depends on.

Counted are the task's module, the components that its settings name, and every module of this
package that those import, by whatever way; further the kernels. Comments, docstrings and layout
do not count, as the hash is of the syntax tree. A module that no result depends on says so of
itself: ``RESULT_NEUTRAL: Final = True`` at its top, or in its package's ``__init__.py``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

from sa3d import registry
from sa3d.errors import ConfigError
from sa3d.tasks.base import Task
from sa3d.utils.syntax import meaning

RESULT_NEUTRAL: Final = True

_PACKAGE = Path(__file__).resolve().parents[1]
_MARK = "RESULT_NEUTRAL"
# C and C++: a comment, or a string or character, which may hold what looks like one
_COMMENT_OR_TEXT = re.compile(
    rb"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'""", re.DOTALL
)


def components(task: Task, settings: dict[str, Any]) -> list[str]:
    """``module:attribute`` of the task and of every component that ``settings`` name anywhere.

    A text that only happens to be a component's name counts as well: that can repeat a run, but
    never take another's result for its own.
    """
    found = {task.run}
    if task.trains is not None:
        architecture = registry.BACKBONES[settings["model"]["backbone"]]
        found.add(str(getattr(architecture, task.trains)))
    tables = (
        registry.BACKBONES,
        registry.METHODS,
        registry.MASKS,
        registry.SOURCES,
        registry.AUGMENTATIONS,
    )
    for text in _texts(settings):
        found |= {registry.place(table[text]) for table in tables if text in table}
    return sorted(found)


def _texts(tree: Any) -> set[str]:
    """Every text among the values of nested mappings and sequences."""
    if isinstance(tree, str):
        return {tree}
    if isinstance(tree, dict):
        return set().union(*map(_texts, tree.values()))
    if isinstance(tree, (list, tuple)):
        return set().union(*map(_texts, tree))
    return set()


@cache
def code_digest(*places: str) -> str:
    """Hash of all source that runs when what is at ``places`` (``module:attribute``) does, kernels
    and the places themselves included."""
    digest = hashlib.sha256(json.dumps(places).encode())
    modules = sorted({place.partition(":")[0] for place in places})
    for name, path in sorted({**code_of(modules), **_kernels()}.items()):
        digest.update(f"{name}\0".encode() + _meaning(path) + b"\0")
    return digest.hexdigest()


def code_of(modules: Iterable[str]) -> dict[str, Path]:
    """``modules`` and every module of this package that they import, but for neutral ones."""
    found: dict[str, Path] = {}
    waiting: list[tuple[str, Path | None]]
    waiting = [(module, _file(module) or _foreign(module)) for module in modules]
    while waiting:
        module, path = waiting.pop()
        if module in found or path is None or _is_neutral(module):
            continue
        found[module] = path
        parent = module.rpartition(".")[0]  # its __init__ runs too
        waiting += [(name, _file(name)) for name in (parent, *_imports(path, parent))]
    return found


@cache
def _meaning(path: Path) -> bytes:
    """A source file without what does not change what it does."""
    source = path.read_bytes()
    if path.suffix != ".py":
        bare = _COMMENT_OR_TEXT.sub(lambda m: b" " if m[0].startswith(b"/") else m[0], source)
        return b" ".join(bare.split())
    return meaning(source)


def _file(module: str) -> Path | None:
    """The file of a module of this package; None for anything else."""
    package, *parts = module.split(".")
    if package != _PACKAGE.name or not parts:
        return None
    place = _PACKAGE.joinpath(*parts)
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _foreign(module: str) -> Path:
    """The file of a component that lives elsewhere."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ConfigError(f"no module {module}, which the registry names")
    return Path(spec.origin)


def _is_neutral(module: str) -> bool:
    """Whether the module, or a package above it, says that no result depends on it."""
    parts = module.split(".")
    packages = [".".join(parts[:count]) for count in range(2, len(parts) + 1)]
    return any(path is not None and _says_neutral(path) for path in map(_file, packages))


@cache
def _says_neutral(path: Path) -> bool:
    source = path.read_bytes()
    if _MARK.encode() not in source:
        return False  # without the time that parsing takes
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == _MARK for target in targets):
            value = getattr(node, "value", None)
            return isinstance(value, ast.Constant) and value.value is True
    return False


@cache
def _imports(path: Path, package: str) -> frozenset[str]:
    """Names that a source file imports, at the top or inside a function, but not for types."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.expr):
            continue  # no statement is inside
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def _kernels() -> dict[str, Path]:
    """Sources of point_ops: its Python, and the C++ inside it (wheel) or beside it (checkout)."""
    spec = importlib.util.find_spec("point_ops")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("point_ops is not installed; run `make setup`")
    package = Path(next(iter(spec.submodule_search_locations)))
    places = (package / "csrc", package.parent / "csrc")
    native = next(filter(None, (list(place.glob("*.[ch]*")) for place in places)), [])
    if not native:
        raise ConfigError(f"{package} lacks the sources of its kernels; run `make setup`")
    return {f"point_ops/{path.name}": path for path in (*package.glob("*.py"), *native)}
