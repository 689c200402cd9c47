"""Finding a version in MLflow's registry by what a person types."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa3d.errors import UserError
from sa3d.registry import nearest
from sa3d.tracking import keys, mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^@/:]+)(?:@(?P<alias>[^@/]+)|/(?P<number>\d+))?")
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of a name, a version, an alias


def reference(text: str, default: str) -> tuple[str, str]:
    """``(name, version or alias)`` of ``NAME``, ``NAME@ALIAS`` or ``NAME/VERSION``, each also
    after ``models:/``.

    Args:
        text: what was typed.
        default: alias where only a name was given.

    Raises:
        UserError: none of these.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise UserError(f"'{text}' is no model; give NAME, NAME@ALIAS or NAME/VERSION")
    return found["name"], found["number"] or found["alias"] or default


def find(opened: MlflowClient, name: str, which: str) -> Any:
    """A version by its number or an alias.

    Raises:
        UserError: no such model, version or alias; with what there is.
    """
    from mlflow.exceptions import MlflowException

    try:
        if which.isdigit():
            return opened.get_model_version(name, which)
        return opened.get_model_version_by_alias(name, which)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
    models = [model.name for model in opened.search_registered_models()]
    if name not in models:
        there = ", ".join(models) or "none; a flow registers what it pre-trains"
        raise UserError(f"no registered model '{name}'{nearest(name, models)}; there is: {there}")
    if which.isdigit():
        numbers = sorted(int(v.version) for v in opened.search_model_versions(f"name = '{name}'"))
        raise UserError(f"{name} has no version {which}; it has {_listed(numbers)}")
    aliases = opened.get_registered_model(name).aliases
    raise UserError(f"{name} has no alias '{which}'; it has {_listed(sorted(aliases))}")


def by_alias(opened: MlflowClient, name: str, alias: str) -> Any | None:
    """The version that an alias points to; None: there is no such alias."""
    number = opened.get_registered_model(name).aliases.get(alias)
    return None if number is None else opened.get_model_version(name, str(number))


def weights_of(version: Any) -> str:
    """sha256 of a version's weights.

    Raises:
        UserError: it was not registered by a flow of this project.
    """
    sha256 = version.tags.get(keys.SHA256)
    if sha256 is None:
        raise UserError(
            f"{version.name} version {version.version} has no tag `{keys.SHA256}`: it was not "
            "registered from a pre-training of this project, so no evaluation can be found"
        )
    return str(sha256)


def siblings(opened: MlflowClient, version: Any) -> list[Any]:
    """The versions of all seeds of the pre-training that made ``version``, itself included.

    Of a seed that was registered more than once (made again on another machine) the newest
    counts. Sorted by version.
    """
    training, by_seed = version.tags.get(keys.TRAINING), {}
    if training is not None:
        versions = opened.search_model_versions(f"name = '{version.name}'")
        for each in sorted(versions, key=lambda v: int(v.version)):
            if each.tags.get(keys.TRAINING) == training:
                by_seed[each.tags.get("seed")] = each
    by_seed[version.tags.get("seed")] = version
    return sorted(by_seed.values(), key=lambda v: int(v.version))


def download(opened: MlflowClient, version: Any, path: str, scratch: str) -> Path:
    """A file or folder of a version's artifacts, brought to the folder ``scratch``."""
    import mlflow.artifacts

    uri = opened.tracking_uri
    # what a version's source names is looked up at the process's URI, not at the client's
    mlflow.set_tracking_uri(uri)
    place = f"models:/{version.name}/{version.version}/{path}"
    found = mlflow.artifacts.download_artifacts(
        place, dst_path=scratch, tracking_uri=uri, registry_uri=uri
    )
    return Path(found)


@contextlib.contextmanager
def store() -> Iterator[MlflowClient]:
    """A client of the registry; what goes wrong with it in the block is said in one line.

    A database file that is not there is not made: who only asks leaves nothing behind.

    Raises:
        UserError: the store is not there, refuses or does not answer.
    """
    from mlflow.exceptions import MlflowException

    uri = mlflow_store.tracking_uri()
    file = mlflow_store.sqlite_path(uri)
    if file is not None and not file.exists():
        raise UserError(
            f"no MLflow store at {file}: run this in the project's folder, or name the store in "
            "MLFLOW_TRACKING_URI"
        )
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # for a few small files
    try:
        yield mlflow_store.client(uri)
    except (MlflowException, OSError) as error:
        raise UserError(
            f"MLflow at {uri.rpartition('@')[2]} refused or did not answer "
            f"({mlflow_store.short(error)}); run the same command again when it does"
        ) from error


def _listed(items: list[Any]) -> str:
    return ", ".join(map(str, items)) or "none"
