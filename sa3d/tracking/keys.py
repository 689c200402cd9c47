"""Names of the tags, aliases and metrics by which runs and registered models are linked."""

from __future__ import annotations

from typing import Final

# of a run
FINGERPRINT: Final = "fingerprint"
CODE: Final = "code"  # digest of the code that decides the result
DATA: Final = "data.digest"  # content of the data set
PROTOCOL: Final = "protocol"  # JSON: how a downstream run measures
ENCODER: Final = "encoder.sha256"  # weights that a downstream run starts from
TEACHER: Final = "teacher.sha256"  # weights that a pre-training distils
KERNELS: Final = "point_ops"  # which point kernels ran

# of a version in the registry
SHA256: Final = "sha256"  # its weights
TRAINING: Final = "training"  # the same for all seeds of one pre-training
GATE: Final = "gate"  # passed or failed
REASON: Final = "gate.reason"
AGAINST: Final = "gate.champion"  # the version that it was compared with
ROLLED_BACK: Final = "rolled_back"  # when it was taken back from being the champion

# aliases
CANDIDATE: Final = "candidate"
CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"  # the champion before


def gate_metric(evaluation: str) -> str:
    """The key of an evaluation's number on a model: ``gate/svm-shapes``."""
    return f"gate/{evaluation}"
