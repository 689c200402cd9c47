"""What ``.local/stack.json`` says: the processes that make up the stack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from sa3d.errors import UserError
from sa3d.utils import paths
from sa3d.utils.files import unread, write_whole
from sa3d.utils.processes import lives

FORMAT: Final = 1
PREFECT: Final = "prefect"
MLFLOW: Final = "mlflow"


@dataclass(frozen=True)
class Part:
    """A process of the stack.

    Attributes:
        name: ``prefect``, ``mlflow``, or ``worker `` and the worker's name.
        process: its identity, as :func:`sa3d.utils.processes.identity` says it.
        started: seconds since 1970, for people.
        address: where it is reached; empty for a worker.
        log: what it prints.
    """

    name: str
    process: str
    started: float
    address: str
    log: str

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self.process.partition("@")[0])

    @property
    def alive(self) -> bool:
        """Whether this process, and no other of its number, is there."""
        return lives(self.process)


@dataclass(frozen=True)
class Stack:
    """All processes of the stack, alive or not.

    Attributes:
        token: of this stack; every process that it starts, or that they start, has it in its
            environment.
        ports: of the two servers, by name.
        pool_type: of the pool ``gpu``.
        parts: in the order in which they were started.
        deployed: digest of what the deployments were made of; empty before the first time.
    """

    token: str
    ports: dict[str, int]
    pool_type: str
    parts: tuple[Part, ...] = ()
    deployed: str = ""

    def part(self, name: str) -> Part | None:
        """The part of that name, if it was started."""
        return next((part for part in self.parts if part.name == name), None)

    def living(self, name: str) -> Part | None:
        """Likewise, if it is alive."""
        part = self.part(name)
        return part if part is not None and part.alive else None

    def address(self, name: str) -> str:
        """Where a server is reached."""
        return f"http://127.0.0.1:{self.ports[name]}"


def record_file() -> Path:
    """``.local/stack.json`` of this project."""
    return paths.root() / ".local" / "stack.json"


def read() -> Stack | None:
    """The stack that was started here last and not ended; None: there is none.

    Raises:
        UserError: the file cannot be read.
    """
    path = record_file()
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["format"] != FORMAT:
            raise ValueError
        parts = tuple(Part(**part) for part in tree["parts"])
        token, ports, pool_type = (tree[key] for key in ("token", "ports", "pool_type"))
        return Stack(token, ports, pool_type, parts, tree["deployed"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if (why := unread(error)) is not None:
            raise UserError(f"{path} {why}") from None
        raise UserError(
            f"cannot read {path}, which says what processes the stack has; end those that still "
            "run by hand, then delete the file"
        ) from None


def write(stack: Stack, parts: Sequence[Part], deployed: str | None = None) -> Stack:
    """Write down the stack with these parts, and what is deployed if that is new; returns it."""
    known = stack.deployed if deployed is None else deployed
    written = replace(stack, parts=tuple(parts), deployed=known)
    text = json.dumps({"format": FORMAT, **asdict(written)}, indent=2)
    write_whole(record_file(), f"{text}\n".encode())
    return written


def forget() -> None:
    """The stack is no more."""
    record_file().unlink(missing_ok=True)
