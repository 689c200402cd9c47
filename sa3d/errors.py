"""Errors that are the user's to mend."""

from __future__ import annotations

from typing import Final

RESULT_NEUTRAL: Final = True


class UserError(Exception):
    """Something the user gave or lacks: wrong value, missing file, full disk.

    The command line prints the message alone, in one or two lines that say what is wrong
    (with the value) and what to do, and exits with status 2. A traceback is for our bugs.
    """

    exit_code = 2


class ConfigError(UserError):
    """A key or value in ``params.yaml`` or ``--set``."""


class DataError(UserError):
    """Raw or processed data that is missing, incomplete or degenerate."""


class AbsentDataError(DataError):
    """A data set of which nothing is there, as its stage found: what needs it is skipped."""


class UnreadDataError(DataError):
    """Data that the system did not let be read: locked or forbidden, which says nothing of it."""


class WriteError(UserError):
    """A file that cannot be written: full disk, no permission."""


class CheckpointError(UserError):
    """A checkpoint that cannot be read or does not fit the model."""


class TrainingError(UserError):
    """Training that cannot go on with these settings: non-finite losses."""
