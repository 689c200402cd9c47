"""Exported models as versions in MLflow's registry. The only module that registers.

A version carries everything to load it without this checkout: weights, settings, the code of
``sa3d`` and ``point_ops``, and the versions of what they import; and it says what it is
(:mod:`sa3d.tracking.describe`). Registering the same weights again finds the version that is there.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sa3d.checkpoints.card import find_model, model_card
from sa3d.runs.spec import RunSpec
from sa3d.runs.tags import training_digest
from sa3d.tracking import describe, keys, mlflow_store, mlflow_sync
from sa3d.tracking.journal import FILE, entries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

_IMPORTED = ("torch", "numpy", "pydantic", "pyyaml", "safetensors", "h5py", "mlflow")


def register(
    run_dir: Path, experiment: str, variant: str, *, candidate: bool = True
) -> dict[str, str]:
    """Register the model that a pre-training run exported, under ``sa3d-<experiment>-<variant>``.

    Args:
        run_dir: the run folder (with ``model/`` and, if it reached MLflow, its run).
        experiment: experiment of ``params.yaml``.
        variant: of the experiment.
        candidate: whether this version becomes ``@candidate``. Of several seeds only one shall.

    Returns:
        ``name``, ``version``, ``uri`` and ``model_id`` of the version.

    Raises:
        CheckpointError: no exported model there.
        mlflow.exceptions.MlflowException: the store refuses or does not answer.
    """
    folder = find_model(run_dir)
    card = model_card(folder)
    opened = mlflow_store.client()
    from mlflow import tracking as mlflow_tracking

    # the registry resolves models:/ID by the process's URI, not by that of the client
    mlflow_tracking.set_tracking_uri(mlflow_store.tracking_uri())
    name = f"sa3d-{experiment}-{variant}"
    tags, about = _tags(card, run_dir), describe.about(folder, card)
    found = _existing(opened, name, card["sha256"])
    if found is None:
        found = _create(opened, name, folder, card, mlflow_sync.run_of(run_dir), tags, about)
    else:
        _complete(opened, found, tags, about)
    if candidate:
        opened.set_registered_model_alias(name, keys.CANDIDATE, str(found.version))
    return {
        "name": name,
        "version": str(found.version),
        "uri": f"models:/{name}/{found.version}",
        # the store leaves `model_id` of a version empty; its source names the logged model
        "model_id": str(found.source).removeprefix("models:/"),
    }


def _existing(opened: MlflowClient, name: str, sha256: str) -> Any:
    """The version of these very weights, if it was registered to its end."""
    from mlflow.exceptions import MlflowException

    try:
        opened.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        _create_name(opened, name)
    for candidate in opened.search_model_versions(f"name = '{name}'"):
        if candidate.tags.get(keys.SHA256) == sha256:
            return candidate
    return None


def _create_name(opened: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        opened.create_registered_model(
            name, description="Frozen features of point clouds: (B, N, 3) in, (B, D) out."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another seed's registration was first
            raise


def _complete(opened: MlflowClient, found: Any, tags: dict[str, str], about: str) -> None:
    """Give a version that was registered earlier what it lacks."""
    for key, value in tags.items():
        if key not in found.tags:
            opened.set_model_version_tag(found.name, found.version, key, value)
    if not found.description:
        opened.update_model_version(found.name, found.version, about)


def _create(
    opened: MlflowClient,
    name: str,
    folder: Path,
    card: dict[str, Any],
    run: mlflow_sync.SyncedRun | None,
    tags: dict[str, str],
    about: str,
) -> Any:
    uri = mlflow_store.tracking_uri()
    run_id = run.run_id if run is not None and run.uri == uri else None
    experiment = (
        run.experiment_id
        if run is not None and run_id is not None
        else mlflow_store.experiment_id(opened, "sa3d/pretrain", uri)
    )
    logged = opened.create_logged_model(
        experiment, name=name, source_run_id=run_id, tags=tags, model_type="pretrained"
    )
    try:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / "model"
            _save(place, folder, card, logged.model_id, run_id)
            opened.log_model_artifacts(logged.model_id, str(place))
    except BaseException:
        opened.finalize_logged_model(logged.model_id, "FAILED")
        raise
    opened.finalize_logged_model(logged.model_id, "READY")
    if run_id is not None:
        from mlflow.entities import LoggedModelOutput

        opened.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return opened.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        tags=tags,
        description=about,
        model_id=logged.model_id,
    )


def _save(
    place: Path, folder: Path, card: dict[str, Any], model_id: str, run_id: str | None
) -> None:
    """Write an MLflow model of the exported ``folder`` to ``place``."""
    import mlflow.pyfunc
    import point_ops
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as scratch:
        code = []
        for package in (Path(__file__).parents[1], Path(point_ops.__file__).parent):
            copied = Path(scratch) / package.name
            # a version brings its own weights: it has no use for those of the encoder in the box
            ignored = shutil.ignore_patterns("__pycache__", "boxed")
            shutil.copytree(package, copied, ignore=ignored)
            code.append(str(copied))
        mlflow.pyfunc.save_model(
            str(place),
            loader_module="sa3d.inference.serving",
            data_path=str(folder),
            code_paths=code,
            mlflow_model=Model(model_id=model_id, run_id=run_id),
            signature=signature(),
            input_example=example(int(card.get("data", {}).get("points", 1024))),
            pip_requirements=[f"{package}=={version(package)}" for package in _IMPORTED],
            metadata={
                keys.FINGERPRINT: card.get(keys.FINGERPRINT, ""),
                keys.SHA256: card["sha256"],
                **describe.preprocessing_tags(card),
            },
        )


def signature() -> ModelSignature:
    """Clouds (B, N, 3) to features (B, D), both float32."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    # without names: MLflow hands a named tensor to the model inside a dict
    clouds = TensorSpec(np.dtype(np.float32), (-1, -1, 3))
    features = TensorSpec(np.dtype(np.float32), (-1, -1))
    return ModelSignature(inputs=Schema([clouds]), outputs=Schema([features]))


def example(points: int) -> NDArray[np.float32]:
    """One cloud (1, N, 3): points of a unit sphere's surface, the same every time."""
    drawn = np.random.default_rng(0).standard_normal((1, points, 3)).astype(np.float32)
    found: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    return found


def _tags(card: dict[str, Any], run_dir: Path) -> dict[str, str]:
    """What the run said of itself, such as its commit and its data, and what the card says."""
    spec = RunSpec.from_json(card["spec"])
    trained: dict[str, str] = {}
    for entry in entries(run_dir / FILE):
        if entry["kind"] == "tags":
            trained |= entry["values"]
    # not the run's process, and not MLflow's own tags: they are about the run's page
    trained = {
        key: value
        for key, value in trained.items()
        if key != "process" and not key.startswith("mlflow.")
    }
    own = spec.tags() | {
        "experiment": str(card["experiment"]),
        keys.FINGERPRINT: str(card[keys.FINGERPRINT]),
        keys.SHA256: card["sha256"],
        keys.DATA: str(card["data"]["digest"]),
        keys.TRAINING: training_digest(card, trained.get(keys.CODE)),
    }
    return trained | own | describe.preprocessing_tags(card)
