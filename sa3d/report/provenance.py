"""The words of the report: where the data is from, what the protocol was, what ran."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sa3d.report.comparison import TaskRow, arm_label
from sa3d.report.results import Experiment
from sa3d.utils.progress import duration

# lineage that the table of steps shows, or that the address of a model says as well
ELSEWHERE = re.compile(
    r"fingerprints\.|mlflow\.runs\.|mlflow\.models\..*\.(name|version|model_id)$"
)
PRIVATE = ("host", "user", "path", "dir")  # lineage that says nothing to another reader


@dataclass(frozen=True)
class Step:
    """One line of `what ran`."""

    name: str
    state: str
    seconds: str
    device: str
    fingerprint: str
    run: str
    url: str
    reason: str


def steps(experiment: Experiment) -> list[Step]:
    """Every node of the experiment, failed ones with their reason."""
    return [
        Step(
            node.name,
            node.status,
            "—" if node.seconds is None else duration(node.seconds),
            device(node.result) or "—",
            node.fingerprint or "—",
            node.run_id,
            node.url if node.url.startswith(("http://", "https://")) else "",
            node.reason,
        )
        for node in experiment.nodes.values()
    ]


def device(source: Mapping[str, Any]) -> str:
    """The recorded device, as text."""
    found = source.get("device") or (source.get("environment") or {}).get("device")
    if isinstance(found, Mapping):
        return ", ".join(str(value) for value in found.values())
    return str(found or "")


def data_facts(experiment: Experiment) -> list[tuple[str, str]]:
    """Counts and identity of the data set, each only where recorded."""
    data = experiment.data
    found = [("data set", str(data.get("name") or "not recorded"))]
    for key, label in (("train", "training"), ("val", "validation"), ("test", "test")):
        if isinstance(data.get(key), int):
            found.append((f"{label} clouds", f"{data[key]:,}".replace(",", " ")))
    classes = data.get("num_classes") or len(data.get("class_names") or [])
    if classes:
        found.append(("classes", str(classes)))
    points = data.get("points") or experiment.setting("data.points")
    if points:
        found.append(("points a cloud", str(points)))
    return found


def data_note(experiment: Experiment) -> str:
    """Licence and how the split was made."""
    data = experiment.data
    own = [str(data[key]) for key in ("licence", "split", "note") if isinstance(data.get(key), str)]
    return " ".join(own) or "No licence or split note is recorded for this data set."


def protocol(experiment: Experiment, rows: Sequence[TaskRow]) -> list[str]:
    """How the numbers came about, in sentences."""
    said = []
    share = experiment.setting("data.val_fraction")
    if share:
        said.append(
            f"Validation clouds are {float(share) * 100:.0f} % of the training split. They choose "
            "the epoch of fine-tuning, which does not train on them; pre-training reads no labels "
            "but sees these clouds too. The C of the SVM is chosen by "
            f"{experiment.setting('svm.folds', 'k')}-fold cross-validation on training clouds."
        )
    if experiment.setting("classify.test_every_epoch", False):
        said.append(
            "The test split was also read after every epoch, for the extra `best on test`: a "
            "number selected on test is no estimate and is never the headline."
        )
    else:
        said.append("Each run reads the test split once, at its end, after every choice was made.")
    said.append(_budget(experiment))
    how = {c.difference.how for row in rows for c in row.comparisons}
    if how:
        said.append(f"Intervals of differences: {', '.join(sorted(how))}; 95 %, two-sided.")
    if any("families" in text for text in how):
        said.append("Whole families are resampled, since clouds of one family are alike.")
    seed = experiment.raw.get("seed", experiment.setting("seed"))
    said.append(
        f"One seed{'' if seed is None else f' ({seed})'}: an interval tells how much the draw of "
        "test clouds matters. How much another seed would change is not measured here and comes "
        "on top."
    )
    return [text for text in said if text]


def _budget(experiment: Experiment) -> str:
    method, baseline = (experiment.nodes.get(f"pretrain-{arm}") for arm in ("method", "baseline"))
    if method is None or baseline is None:
        return ""
    epochs = [experiment.setting(f"{stage}.epochs", "?") for stage in ("pretrain", "baseline")]
    name = arm_label(experiment, "method")
    text = (
        f"Pre-training sees no labels: {name} {epochs[0]} epochs, "
        f"{arm_label(experiment, 'baseline')} {epochs[1]}"
    )
    if method.seconds and baseline.seconds:
        text += f"; in time {duration(method.seconds)} and {duration(baseline.seconds)}"
    text += "."
    if experiment.setting("pretrain.method") == "sa3df":
        text += (
            f" The {arm_label(experiment, 'baseline')} model is also {name}'s frozen knowledge "
            f"teacher, so {name} costs both."
        )
    return text


def origin(experiment: Experiment) -> list[tuple[str, str]]:
    """Command, seed, time, versions and lineage, each only where recorded."""
    raw = experiment.raw
    found = []
    command = raw.get("command")
    if command:
        found.append(("command", command if isinstance(command, str) else shlex.join(command)))
    seed = raw.get("seed", experiment.setting("seed"))
    if seed is not None:
        found.append(("seed", str(seed)))
    wall = raw.get("wall_seconds")
    if isinstance(wall, (int, float)):
        again = len(raw.get("reused", []))
        rest = f", {again} steps reused from before" if again else ""
        found.append(("wall time of this call", duration(float(wall)) + rest))
    compute = raw.get("compute_seconds")
    if isinstance(compute, (int, float)):
        found.append(("time of all steps, added up", duration(float(compute))))
    sources = [raw, *(node.result for node in experiment.nodes.values())]
    where = next(filter(None, map(device, sources)), "")
    if where:
        found.append(("device", where))
    if experiment.data.get("digest"):
        found.append(("data digest", str(experiment.data["digest"])))
    for key in ("versions", "lineage"):
        recorded = [source.get(key) for source in sources]
        value = next((item for item in recorded if isinstance(item, Mapping) and item), None)
        known = {text for _, text in found if len(text) > 8}
        found += [
            (name, text)
            for name, text in _flat(value or {})
            if not _hidden(name) and text not in known
        ]
    return found


def _hidden(name: str) -> bool:
    words = name.lower().replace("_", ".").split(".")
    return bool(ELSEWHERE.match(name)) or any(word in words for word in PRIVATE)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found += _flat(value, f"{name}.")
        elif isinstance(value, (str, int, float, bool)):
            found.append((name, str(value)))
    return found
