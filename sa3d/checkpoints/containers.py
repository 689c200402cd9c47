"""Published checkpoint files: read without running what they hold, and written.

A ``.pth`` file is a pickle. It is read with ``weights_only``: tensors and plain values are built,
nothing is called. A file that needs more is refused with the names of what it needs; the user may
trust single names.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from sa3d.errors import CheckpointError
from sa3d.utils.files import write_whole

#: keys under which published code keeps weights, and what it calls their moving average
CONTAINERS: Final = ("base_model", "state_dict", "model_state_dict")
EMA: Final = "ema_state_dict"
_PREFIX: Final = "module."  # of a model wrapped for several GPUs

#: what published checkpoints are known to contain beside tensors, all of it mere data
_HARMLESS: Final = frozenset(
    {
        "argparse.Namespace",
        "easydict.EasyDict",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.dtype",
        "numpy.ndarray",
    }
)
# the first bytes of a zip archive and of a pickle, as torch.save writes them
_BEGINS: Final = (b"PK", b"\x80")
# functions that build one object out of data; any other name must be a class
_BUILDERS: Final = ("numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct")


@dataclass(frozen=True)
class Published:
    """The weights of a published file, and where they were in it.

    Attributes:
        state: tensors as stored, without ``module.``.
        container: key that they stood under; empty: they were the file.
        prefixed: whether their names began with ``module.``.
        epoch: that the file tells; None: it tells none.
        sha256: of the file.
    """

    state: dict[str, Tensor]
    container: str
    prefixed: bool
    epoch: int | None
    sha256: str


def read_published(path: Path, *, ema: bool = False, trust: Sequence[str] = ()) -> Published:
    """The weights of a published checkpoint.

    Args:
        path: ``.pth``, ``.pt``, ...
        ema: the moving average instead of the weights themselves.
        trust: names of classes that the file may build, as in ``argparse.Namespace``.

    Raises:
        CheckpointError: no such file, no checkpoint, damaged, one that needs more than `trust`
            allows, or without weights.
    """
    digest = _digest(path)
    tree = _unpickled(path, trust)
    if not isinstance(tree, Mapping):
        raise CheckpointError(f"{path} holds a {type(tree).__name__}, not a mapping of weights")
    container, weights = _weights_of(path, tree, ema)
    strange = [
        f"'{name}' is a {type(value).__name__}"
        for name, value in weights.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if strange or not weights:
        what = container or "the file"
        said = strange[0] if strange else "it is empty"
        raise CheckpointError(f"{path}: {what} should hold tensors by name, but {said}")
    prefixed = all(name.startswith(_PREFIX) for name in weights)
    state = {name[len(_PREFIX) :] if prefixed else name: t for name, t in weights.items()}
    epoch = tree.get("epoch") if container else None
    return Published(
        state,
        container,
        prefixed,
        epoch if isinstance(epoch, int) else None,
        digest,
    )


def write_published(
    path: Path, state: Mapping[str, Tensor], container: str, epoch: int | None
) -> None:
    """Write weights as published code keeps them."""
    tree: dict[str, Any] = dict(state)
    if container:
        tree = {container: tree} | ({} if epoch is None else {"epoch": epoch})
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    write_whole(path, buffer.getbuffer())


def _digest(path: Path) -> str:
    """sha256 of a file that begins like a checkpoint."""
    try:
        with path.open("rb") as file:
            begin = file.read(512)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError:
        raise CheckpointError(
            f"{path} is a folder; give a published checkpoint file, or --to official to write "
            "this model as one"
        ) from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    if begin.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{path} is a web page, not a checkpoint: the download gave a page instead of the "
            "file; download it again"
        )
    if begin.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a pointer of git-lfs, not the file; run `git lfs pull`")
    return digest


def _unpickled(path: Path, trust: Sequence[str]) -> Any:
    with torch.serialization.safe_globals([pair for name in trust for pair in _trusted(name)]):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            said = str(error)
        except Exception as error:  # whatever a damaged file makes of the reader
            said = f"{type(error).__name__} {error}"
    if needed := _needed(path, said):
        raise CheckpointError(_refusal(path, needed))
    raise CheckpointError(f"{path} {_unreadable(path, said)}")


def _unreadable(path: Path, said: str) -> str:
    """What a file is that no checkpoint could be read from, and what to do."""
    with path.open("rb") as file:
        begin = file.read(512)
    if not begin:
        return "is empty; download or write it again"
    if begin.startswith(_BEGINS):
        found = re.search(r"error:\s*(.*?)\s*(?:Check the documentation|$)", said, re.DOTALL)
        reason = " ".join((found[1] if found else said).split())[:120]
        return (
            "begins like a checkpoint, but is damaged or not whole; download or write it again. "
            f"PyTorch says: {reason}"
        )
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in begin):
        return "is a text file, not a checkpoint; give the .pth or .pt file itself"
    return "is no checkpoint that torch.save wrote; give a .pth or .pt file, or download it again"


def _needed(path: Path, said: str) -> list[str]:
    """Names that a file asks for and that are not trusted."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a file of torch before 1.6, or whatever a damaged one makes of the reader
        return sorted(set(re.findall(r"GLOBAL ([\w.]+\w) ", said)))


def _refusal(path: Path, needed: Iterable[str]) -> str:
    needed = list(needed)
    text = f"{path} would build {', '.join(needed)} while it is read, which could run code; "
    if set(needed) <= _HARMLESS:
        options = " ".join(f"--trust {name}" for name in needed)
        return f"{text}these hold mere data: allow them with {options}"
    return (
        f"{text}if you know what these are and who made the file, allow each with --trust NAME; "
        "else do not load it"
    )


def _trusted(name: str) -> list[tuple[Any, str]]:
    """What torch is told to allow for ``--trust name``.

    Raises:
        CheckpointError: not installed, or not a class.
    """
    modern = re.sub(r"^numpy\.core\.", "numpy._core.", name)  # renamed in numpy 2
    module, _, attribute = modern.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise CheckpointError(
            f"--trust {name}: there is no such name here; install the package that has it"
        ) from None
    if not isinstance(found, type) and modern not in _BUILDERS:
        raise CheckpointError(
            f"--trust {name}: only classes can be trusted, and this is a function: the file could "
            "call it with anything"
        )
    pairs = [(found, name)]
    if name == "numpy.dtype":  # each type of number has a class of its own
        dtypes = importlib.import_module("numpy.dtypes")
        kinds = [getattr(dtypes, kind) for kind in dtypes.__all__ if kind != "ObjectDType"]
        pairs += [(kind, f"numpy.dtypes.{kind.__name__}") for kind in kinds]
    return pairs


def _weights_of(path: Path, tree: Mapping[Any, Any], ema: bool) -> tuple[str, Mapping[str, Any]]:
    """Key and content of the mapping that holds the weights."""
    for key in (EMA,) if ema else CONTAINERS:
        if isinstance(tree.get(key), Mapping):
            return key, tree[key]
    if ema:
        raise CheckpointError(f"{path} has no {EMA}; leave --ema out")
    if tree and all(isinstance(value, Tensor) for value in tree.values()):
        return "", tree
    keys = ", ".join(map(str, list(tree)[:6])) or "nothing"
    raise CheckpointError(
        f"{path} has no weights under {', '.join(CONTAINERS)}, and is none itself; it has: {keys}"
    )
