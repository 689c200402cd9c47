"""Which version of a registered model is the champion: the gate, and the way back.

:func:`promote` compares what was measured of a candidate with the rules and with the champion
(:mod:`sa3d.tracking.verdict`), writes the verdict as tags on the version (``gate``,
``gate.reason``), and moves the alias ``champion`` only if everything passed. Each step is one
request, in this order: tags, alias ``previous`` to the old champion, alias ``champion``. Only the
last one changes who is champion, so that a stop anywhere before leaves the old one, and the same
call completes what is missing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sa3d.config.gate import GateRules, load_rules
from sa3d.errors import UserError
from sa3d.tracking import describe, keys
from sa3d.tracking.registry_lock import locked
from sa3d.tracking.verdict import Verdict, judge
from sa3d.tracking.versions import by_alias, find, store

if TYPE_CHECKING:
    from mlflow import MlflowClient


def promote(
    name: str,
    version_or_alias: str = keys.CANDIDATE,
    rules: GateRules | None = None,
    *,
    params: Path | None = None,
    dry_run: bool = False,
) -> Verdict:
    """Judge a version and make it the champion if it passes.

    Args:
        name: of the registered model.
        version_or_alias: the candidate.
        rules: of the gate; by default those that ``params`` has for the version's experiment.
        params: settings file; the project's ``params.yaml`` by default.
        dry_run: only judge; nothing in the store changes.

    Returns:
        The verdict; ``passed`` is False where the gate refused.

    Raises:
        UserError: no such model or version, or the store does not answer. ConfigError: rules.
    """
    with store() as opened:
        candidate = find(opened, name, version_or_alias)
        if rules is None:
            rules = load_rules(candidate.tags.get("experiment", ""), params)
        if dry_run:
            return judge(opened, candidate, by_alias(opened, name, keys.CHAMPION), rules)
        describe.update(opened, name, candidate.version)
        with locked(opened, name):
            candidate = find(opened, name, str(candidate.version))
            champion = by_alias(opened, name, keys.CHAMPION)
            verdict = judge(opened, candidate, champion, rules)
            if verdict.champion == verdict.version:
                return verdict
            _tag(opened, verdict)
            if not verdict.passed:
                return verdict
            if champion is not None:
                opened.set_registered_model_alias(name, keys.PREVIOUS, str(champion.version))
            opened.set_registered_model_alias(name, keys.CHAMPION, verdict.version)
    return replace(verdict, moved=True)


def rollback(name: str) -> tuple[str, str]:
    """Make the champion before the champion again. The version that it replaces is marked, so that
    the gate does not let it pass again.

    Returns:
        The version that was the champion, and the one that is now.

    Raises:
        UserError: nothing to go back to, or the store does not answer.
    """
    with store() as opened:
        bad = find(opened, name, keys.CHAMPION)
        with locked(opened, name):
            bad, good = find(opened, name, keys.CHAMPION), by_alias(opened, name, keys.PREVIOUS)
            if good is None or good.version == bad.version:
                raise UserError(
                    f"{name} has no champion before version {bad.version}; to take another one, "
                    f"set its alias `{keys.CHAMPION}` in MLflow"
                )
            now = datetime.now(UTC).isoformat(timespec="seconds")
            opened.set_model_version_tag(name, bad.version, keys.ROLLED_BACK, now)
            opened.set_registered_model_alias(name, keys.CHAMPION, str(good.version))
            opened.delete_registered_model_alias(name, keys.PREVIOUS)
    return str(bad.version), str(good.version)


def _tag(opened: MlflowClient, verdict: Verdict) -> None:
    told = {
        keys.REASON: verdict.reason,
        keys.AGAINST: verdict.champion or "none",
        keys.GATE: "passed" if verdict.passed else "failed",
    }
    for key, value in told.items():
        opened.set_model_version_tag(verdict.name, verdict.version, key, value)
