"""Where a result comes from: commit, data, machine, and the flow that asked for it."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import yaml

from sa3d.errors import UserError
from sa3d.utils.paths import root

_GIT_SECONDS: Final = 10.0  # a run does not wait longer to learn its commit
PARENT_TAGS = "SA3D_TAGS"  # JSON: tags a flow hands down to the runs it starts


@cache
def git(folder: Path | None = None) -> dict[str, str]:
    """``git.commit`` and ``git.dirty`` of the checkout; outside one ``$SA3D_COMMIT``.

    What git does not tell is left out, and ``git.unknown`` says why: a run is made all the same.

    ``dvc.lock`` and ``metrics/`` do not count as dirt: the very run that is being described
    rewrites them.
    """
    where = folder or root()
    found: dict[str, str] = {}
    try:
        found["git.commit"] = _git(where, "rev-parse", "HEAD").strip()
        changed = _git(where, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError) as error:
        # an unpacked archive, no git on this machine, or one that does not answer; or an image,
        # which was told its commit when it was built
        given = os.environ.get("SA3D_COMMIT")
        if given and not found:
            return {"git.commit": given}
        return found | {"git.unknown": _refusal(error)}
    ours = re.compile(r"dvc\.lock|metrics/[^/]+\.json")
    dirty = any(not ours.fullmatch(line[3:]) for line in changed.splitlines())
    return found | {"git.dirty": str(dirty).lower()}


def _git(where: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(where), *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=_GIT_SECONDS,
        # git speaks the user's language, and records are read by others and compared
        env={**os.environ, "LC_ALL": "C", "LANGUAGE": ""},
    ).stdout


def _refusal(error: OSError | subprocess.SubprocessError) -> str:
    """Why git did not say what it was asked, in a few words."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"`git {error.cmd[3]}` took more than {error.timeout:g} s"
    if isinstance(error, subprocess.CalledProcessError):
        said = str(error.stderr).strip().partition("\n")[0]
        return said or f"git ended with {error.returncode}"
    return f"git cannot be run: {error.strerror}" if isinstance(error, OSError) else str(error)


def dvc_lock(folder: Path | None = None) -> dict[str, Any]:
    """The parsed ``dvc.lock``; empty when nothing was reproduced yet.

    Read as a file and never through DVC, which is locked while one of its stages runs.

    Raises:
        UserError: when it cannot be read, as with a merge conflict inside.
    """
    path = (folder or root()) / "dvc.lock"
    if not path.is_file():
        return {}
    try:
        return dict(_parsed(path.read_text(encoding="utf-8")) or {})
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from None


@lru_cache(maxsize=1)
def _parsed(text: str) -> Any:
    """A flow asks for every data set of each of its experiments, and parsing is slow."""
    return yaml.safe_load(text)


def data_md5(name: str, folder: Path | None = None) -> str | None:
    """DVC's hash of processed data set ``name``, if a stage made it."""
    out = data_out(name, folder)
    return str(out.get("md5")) if out else None


def data_out(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What ``dvc.lock`` says of processed data set ``name``; empty where no stage made it."""
    for stage in (dvc_lock(folder).get("stages") or {}).values():
        for out in stage.get("outs", []):
            if out.get("path") == f"data/processed/{name}.h5":
                return dict(out)
    return {}


def tags(data: str | None = None) -> dict[str, str]:
    """Lineage tags of a run in this process, on data set ``data``."""
    found = {"host": socket.gethostname(), **git()}
    lock = root() / "dvc.lock"
    if lock.is_file():
        found["dvc.lock.sha256"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    if os.environ.get("DVC_EXP_NAME"):
        found["dvc.exp_name"] = os.environ["DVC_EXP_NAME"]
    if data:
        found |= data_tags(data)
    return found | compute() | from_parent()


def source(command: str) -> dict[str, str]:
    """What MLflow shows as the source of a run: the command, its user, and the commit.

    The type is that of a job: of any other, MLflow's table shows only what follows the command's
    last slash.
    """
    found = {}
    with contextlib.suppress(KeyError, OSError):  # a user number without a name, as in containers
        found["mlflow.user"] = getpass.getuser()
    if command:
        found |= {"mlflow.source.name": command, "mlflow.source.type": "JOB"}
    commit = git().get("git.commit")
    return found | ({"mlflow.source.git.commit": commit} if commit else {})


def data_tags(name: str) -> dict[str, str]:
    """``data.<name>.md5`` of a data set; empty where no DVC stage made it."""
    md5 = data_md5(name)
    return {f"data.{name}.md5": md5} if md5 else {}


def compute() -> dict[str, str]:
    """``gpu.name`` and which point kernels run, of a process that computes.

    Such a process has torch loaded; one that only plans or reports must not load it for this.
    """
    found: dict[str, str] = {}
    torch, point_ops = sys.modules.get("torch"), sys.modules.get("point_ops")
    if torch is not None and torch.cuda.is_available():
        found["gpu.name"] = str(torch.cuda.get_device_name())
    if point_ops is not None:
        found["point_ops"] = kernels(point_ops.backends())
    return found


def kernels(backends: Mapping[str, str]) -> str:
    """``cpp``, or where operators differ each backend with its operators:
    ``cpp: fps, knn; torch: interpolate``."""
    by_name: dict[str, list[str]] = {}
    for operator, name in sorted(backends.items()):
        by_name.setdefault(name, []).append(operator)
    if len(by_name) == 1:
        return next(iter(by_name))
    return "; ".join(f"{name}: {', '.join(ops)}" for name, ops in sorted(by_name.items()))


def from_parent() -> dict[str, str]:
    """Tags that the flow above this process handed down."""
    handed: Mapping[str, str] = json.loads(os.environ.get(PARENT_TAGS) or "{}")
    return {key: str(value) for key, value in handed.items()}
