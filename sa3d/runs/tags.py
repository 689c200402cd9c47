"""The labels of a run in MLflow: what it is, and by which content it is linked to others.

The content links (sha256 of weights, digest of data) hold where names do not: a pre-training that
was made again under the same name exports other weights.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from sa3d import registry
from sa3d.checkpoints.card import model_digest
from sa3d.config.data import DataConfig
from sa3d.config.experiment import ModelConfig
from sa3d.errors import UserError
from sa3d.runs.code import code_digest, components
from sa3d.runs.config import RunConfig
from sa3d.runs.fingerprint import CONFIG, LENGTH, Located, digest_of
from sa3d.runs.spec import RunSpec
from sa3d.tracking import keys
from sa3d.utils.files import unread
from sa3d.utils.paths import RESULT

RESULT_NEUTRAL: Final = True


def run_tags(located: Located) -> dict[str, str]:
    """All tags of a run that is about to begin, but for those of its lineage."""
    run = located.run
    code = code_digest(*components(run.task, run.deciding()))[:LENGTH]
    return _tags(located, digest_of(located.run.data)) | {keys.CODE: code}


def tags_of_folder(folder: Path) -> dict[str, str]:
    """The tags of a finished run, out of what it left: for a run from before these tags.

    Which code it ran is not among them, as nothing in the folder says so.

    Raises:
        UserError: a file that is missing or does not describe a run. CheckpointError: the model
            that it started from is gone.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        spec = RunSpec.from_json(config["spec"])
        task = registry.task(spec.task)
        model = TypeAdapter(ModelConfig).validate_python(config["model"])
        settings: Any
        if spec.task == registry.PRETRAIN:
            method = config["settings"]["method"]
            settings = registry.settings_of(registry.METHODS, "method", method)
        else:
            settings = task.settings
        run = RunConfig(
            config["experiment"],
            spec,
            model,
            DataConfig.model_validate(config["data"]),
            settings.model_validate(config["settings"]),
        )
        start, teacher = (config[key] and Path(config[key]) for key in ("start", "teacher"))
        located = Located(run, config["fingerprint"], folder, start, teacher)
        digest = result["data"]["digest"]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        if (why := unread(error)) is not None and not isinstance(error, FileNotFoundError):
            raise UserError(f"{folder} {why}") from None
        said = type(error).__name__
        raise UserError(f"{folder} does not describe a finished run ({said})") from None
    return _tags(located, digest)


def _tags(located: Located, digest: str) -> dict[str, str]:
    run = located.run
    found = run.spec.tags() | {
        "experiment": run.experiment,
        "encoder": run.model.backbone,
        keys.FINGERPRINT: located.fingerprint,
        keys.DATA: digest,
    }
    if run.spec.task != registry.PRETRAIN:
        found[keys.PROTOCOL] = json.dumps(run.protocol(), sort_keys=True)
    if located.start is not None:
        found[keys.ENCODER] = model_digest(located.start)
    if located.teacher is not None:
        found[keys.TEACHER] = model_digest(located.teacher)
    return found


def training_digest(card: dict[str, Any], code: str | None) -> str:
    """16 hex digits that the seeds of one pre-training have in common, and nothing else has.

    Args:
        card: of the exported model.
        code: :data:`sa3d.tracking.keys.CODE` of its run; None where that is not known.
    """
    spec = RunSpec.from_json(card["spec"])
    teacher = spec.teacher.variant if isinstance(spec.teacher, RunSpec) else spec.teacher
    whole = [
        *(card["experiment"], spec.variant, teacher, code),
        *(card.get("model"), card.get("settings"), card["data"]),
    ]
    text = json.dumps(whole, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
