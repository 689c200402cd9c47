"""The words of the report: where the data is from, what the protocol was, what ran."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sa3d.report.results import Experiment
from sa3d.report.sections import Section
from sa3d.report.wording import counted, percent, plural
from sa3d.utils.progress import duration

# lineage that the table of runs shows, or that the address of a model says as well
ELSEWHERE = re.compile(
    r"fingerprints\.|mlflow\.runs\.|mlflow\.models\.|data\.[^.]+\.digest$|prefect_flow_run$"
)
PRIVATE = ("host", "user", "path", "dir")  # lineage that says nothing to another reader
FALSE_ALARMS = 20  # of so many comparisons at 95 % one is clear by chance alone


@dataclass(frozen=True)
class RanRow:
    """One line of `what ran`."""

    name: str
    state: str
    seconds: str
    device: str
    fingerprint: str
    run: str
    url: str
    reason: str


def what_ran(experiment: Experiment) -> list[RanRow]:
    """Every run of the experiment, failed ones with their reason."""
    return [
        RanRow(
            run.name,
            f"{run.status}: {run.model}" if run.model else run.status,
            "—" if run.seconds is None else duration(run.seconds),
            str(run.result.get("device") or "—"),
            run.fingerprint or "—",
            run.run_id,
            run.url if run.url.startswith(("http://", "https://")) else "",
            run.reason,
        )
        for run in experiment.runs.values()
    ]


def facts(experiment: Experiment, sections: Sequence[Section]) -> list[tuple[str, str]]:
    """The experiment in a few counts."""
    runs = [run for run in experiment.runs.values() if run.kind != "register"]
    done = sum(run.finished for run in runs)
    found = [
        ("variants", str(len(experiment.config.variants))),
        ("evaluations", str(len(sections))),
        ("data sets", ", ".join(experiment.config.datasets) or "none"),
        ("runs finished", f"{done} of {len(runs)}" if done < len(runs) else str(done)),
    ]
    models = [run for run in experiment.runs.values() if run.kind == "register"]
    if models:
        done = sum(run.finished for run in models)
        text = f"{done} of {len(models)}" if done < len(models) else str(done)
        found.append(("models registered besides", text))
    compute = experiment.raw.get("compute_seconds")
    if isinstance(compute, (int, float)):
        found.append(("computing time", duration(float(compute))))
    return found


def data_facts(section: Section) -> str:
    """Counts of the clouds of an evaluation, as far as its runs recorded them."""
    data: dict[str, Any] = {}
    for run in section.runs:
        data.update({key: value for key, value in run.data.items() if value is not None})
    words = [
        f"{data[key]:,}".replace(",", " ") + f" {label}"
        for key, label in (("train", "training"), ("val", "validation"), ("test", "test"))
        if isinstance(data.get(key), int)
    ]
    found = [f"{', '.join(words)} clouds"] if words else []
    if data.get("num_classes"):
        classes = int(data["num_classes"])
        found.append(f"{classes} class" + ("es" if classes > 1 else ""))
    found.append(f"{section.evaluation.data.points} points a cloud")
    return "; ".join(found)


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set."""

    name: str
    digest: str
    note: str


def data_sets(experiment: Experiment) -> list[DataSet]:
    """Every data set of the experiment, with its licence and how it was split."""
    recorded = experiment.raw.get("data")
    found = []
    for name in experiment.config.datasets:
        facts: dict[str, Any] = {}
        if isinstance(recorded, Mapping) and isinstance(recorded.get(name), Mapping):
            facts.update(recorded[name])
        for run in experiment.runs.values():
            if run.data.get("name") == name:
                facts.update({key: value for key, value in run.data.items() if value is not None})
        own = [str(facts[key]) for key in ("licence", "split", "note") if facts.get(key)]
        if facts.get("absent"):
            found.append(DataSet(name, "none", "It is absent, and no run reads it."))
            continue
        note = " ".join(own) or "No licence or split note is recorded."
        found.append(DataSet(name, str(facts.get("digest") or "not recorded"), note))
    return found


def protocol(experiment: Experiment, sections: Sequence[Section]) -> list[str]:
    """How the numbers came about, in sentences that hold for all evaluations."""
    if not sections:
        return []
    said = [_test_reads(sections), _intervals(sections), _repetitions(sections)]
    said += [_precisions(section) for section in sections]
    comparisons = sum(c.difference.interval is not None for s in sections for c in s.comparisons)
    if comparisons >= FALSE_ALARMS // 2:
        said.append(
            f"There are {comparisons} comparisons at 95 %: if no variant differed from the "
            f"reference at all, about {comparisons / FALSE_ALARMS:.1g} of them would still be "
            "called more than noise."
        )
    return [text for text in said if text]


def validation(experiment: Experiment, section: Section) -> str:
    """Which clouds chose anything, as the runs recorded it; empty where nothing was recorded."""
    words, shares = [], []
    for run in section.runs:
        if run.finished and run.protocol.get("validation"):
            words.append(str(run.protocol["validation"]))
            if isinstance(run.protocol.get("val_share"), (int, float)):
                shares.append(float(run.protocol["val_share"]))
    different = list(dict.fromkeys(words))
    if not different:
        return ""
    text = f"Validation: {different[0]}"
    if len(different) > 1 and len(shares) == len(words):
        text = f"Validation: {percent(min(shares))} to {percent(max(shares))} of the training "
        text += "split, depending on the seed"
    elif len(different) > 1:
        text = f"Validation: {'; or '.join(different)}"
    pretrain = experiment.config.pretrain
    if pretrain is not None and pretrain.data.name == section.evaluation.data.name:
        text += ". Pre-training reads no labels but sees these clouds too"
    return f"{text}."


def _test_reads(sections: Sequence[Section]) -> str:
    reads: dict[str, int] = {}
    for section in sections:
        for run in section.runs:
            count = run.protocol.get("test_reads")
            if run.finished and isinstance(count, int):
                reads[section.name] = max(count, reads.get(section.name, 0))
    several = {name: count for name, count in reads.items() if count > 1}
    if several:
        names = ", ".join(f"{name} ({count} times a run)" for name, count in several.items())
        return (
            f"The test split was read more than once in {names}: a number selected on test is no "
            "estimate, and variants are never compared by it."
        )
    if reads:
        return "Each run reads the test split once, at its end, after every choice was made."
    return ""


def _precisions(section: Section) -> str:
    """Where runs of one table computed in several precisions, which variant did in which."""
    ways: dict[str, list[str]] = {}
    for each in section.variants:
        found = [run.protocol.get("precision") for run in each.finished]
        if known := [way for way in found if isinstance(way, str)]:
            ways[each.variant.label] = known
    if len({way for found in ways.values() for way in found}) < 2:
        return ""
    told = "; ".join(f"{name}: {counted(found)}" for name, found in ways.items())
    return (
        f"Runs of {section.name} computed in different precisions, as machines differ ({told}). "
        "Part of a difference between them may be rounding; `precision: fp32` in the settings of "
        "the evaluation makes all alike."
    )


def _intervals(sections: Sequence[Section]) -> str:
    ways = [each.estimate.how for s in sections for each in s.with_numbers if each.estimate]
    ways += [each.difference.how for section in sections for each in section.comparisons]
    text = "Intervals are two-sided and claim 95 %; how each was made stands beside it."
    if any("families" in way for way in ways):
        text += (
            " Clouds of one family are alike, so families, not clouds, are the pieces of "
            "evidence: half-samples divide the families in two, many times, and compare the means "
            "of the halves."
        )
    return text


def _repetitions(sections: Sequence[Section]) -> str:
    runs = [each.estimate.runs for s in sections for each in s.with_numbers if each.estimate]
    if not runs:
        return ""
    text = (
        "Runs that start from one pre-training differ in the seed of the evaluation alone: what "
        "another pre-training would change is in no interval unless the table names several."
    )
    if min(runs) == 1:
        text += " Of a single run the interval tells how much the draw of test clouds matters; "
        text += "what another seed would change comes on top."
    return text


def origin(experiment: Experiment) -> list[tuple[str, str]]:
    """Command, time, versions and lineage, each only where recorded."""
    raw = experiment.raw
    found = []
    command = raw.get("command")
    if command:
        found.append(("command", command if isinstance(command, str) else shlex.join(command)))
    wall = raw.get("wall_seconds")
    if isinstance(wall, (int, float)):
        again = len(raw.get("reused") or [])
        rest = f", {plural(again, 'run')} reused from before" if again else ""
        found.append(("wall time of this call", duration(float(wall)) + rest))
    compute = raw.get("compute_seconds")
    if isinstance(compute, (int, float)):
        found.append(("time of all runs, added up", duration(float(compute))))
    versions = _first(experiment.runs.values(), "versions")
    for tree in (versions, raw.get("lineage")):
        if isinstance(tree, Mapping):
            known = {text for _, text in found if len(text) > 8}
            found += [
                (name, text)
                for name, text in _flat(tree)
                if not _hidden(name) and text not in known
            ]
    return found


def _first(runs: Any, key: str) -> Any:
    return next((run.result[key] for run in runs if run.result.get(key)), None)


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
