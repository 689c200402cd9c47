"""What the whole page says in two lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sa3d import registry
from sa3d.report.results import Experiment
from sa3d.report.sections import Section, variants_of
from sa3d.report.wording import listed, plural

LONGEST = 200  # characters of a verdict; beyond, comparisons are counted
NAMED = 2  # evaluations that are named rather than counted
UNKNOWN = "no interval tells differences from noise"


@dataclass(frozen=True)
class Headline:
    """Title, the verdict under it, and a sentence of detail."""

    title: str
    verdict: str
    detail: str


def headline(experiment: Experiment, sections: Sequence[Section]) -> Headline:
    """Which variant is clearly better than which, and on what."""
    config = experiment.config
    labels = [variant.label for variant in variants_of(config).values()]
    title = f"{config.name}: {labels[0]}"
    if len(labels) > 1:
        title += f" against {listed(labels[1:])}"
    title += f", {config.model.backbone}"
    return Headline(title, _verdict(experiment, sections), _detail(experiment, sections))


def _verdict(experiment: Experiment, sections: Sequence[Section]) -> str:
    if not sections:
        done = [
            run
            for run in experiment.runs.values()
            if run.kind == registry.PRETRAIN and run.finished
        ]
        if done:
            return (
                f"Pre-training alone: {plural(len(done), 'run')} finished, nothing was evaluated."
            )
        return "No run finished: there is no result to report."
    if not any(section.with_numbers for section in sections):
        return "No evaluation finished: there is no result to report."
    comparisons = [each for section in sections for each in section.comparisons]
    if not comparisons:
        return "Too few runs finished to compare anything with the reference."
    text = _by_variant(sections)
    return text if len(text) <= LONGEST else _in_numbers(sections)


def _by_variant(sections: Sequence[Section]) -> str:
    """The variants that the reference is clearly ahead of or behind, and on what."""
    found: dict[str, dict[str, list[str]]] = {}
    for section in sections:
        for each in section.comparisons:
            of_variant = found.setdefault(each.second.name, {})
            of_variant.setdefault(each.verdict, []).append(section.name)
    first = _reference(sections)
    ahead, behind = (_clauses(found, verdict) for verdict in ("better", "worse"))
    if not ahead and not behind:
        return _undecided(first, found, sections)
    parts = [f"clearly better {listed(ahead)}"] if ahead else []
    parts += [f"clearly worse {listed(behind)}"] if behind else []
    return f"{first} is {' and '.join(parts)}."


def _others(sections: Sequence[Section]) -> list[str]:
    """A sentence on the comparisons that :func:`_by_variant` does not name."""
    every = [(each, section.name) for section in sections for each in section.comparisons]
    claims = any(each.verdict in ("better", "worse") for each, _ in every)
    if not claims or len(_by_variant(sections)) > LONGEST:
        return []  # the verdict speaks of them
    said = []
    for verdict, told in (("unclear", "nothing is beyond noise"), ("unknown", UNKNOWN)):
        found = [(each.second.name, name) for each, name in every if each.verdict == verdict]
        if len(found) == 1:
            said.append(f"against {found[0][0]} on {found[0][1]} {told}")
        elif found:
            said.append(f"in {len(found)} other comparisons {told}")
    text = "; ".join(said)
    return [f"{text[:1].upper()}{text[1:]}."] if text else []


def _undecided(
    first: str, found: Mapping[str, Mapping[str, Sequence[str]]], sections: Sequence[Section]
) -> str:
    """No comparison shows a difference: because it is within noise, or has no interval."""
    others = listed([name for name, verdicts in found.items() if "unclear" in verdicts], "or")
    count = sum(len(verdicts.get("unknown", ())) for verdicts in found.values())
    if not others:
        return f"{first} is compared with {listed(list(found))}, but {UNKNOWN}."
    measured = [s.name for s in sections if any(c.verdict == "unclear" for c in s.comparisons)]
    text = f"No difference beyond noise between {first} and {others} {_where(measured, 0)}"
    if count:
        text += f"; in {plural(count, 'other comparison')} {UNKNOWN}"
    return f"{text}."


def _label(experiment: Experiment) -> str:
    return variants_of(experiment.config)[experiment.config.reference].label


def _reference(sections: Sequence[Section]) -> str:
    return next(each.first.label for section in sections for each in section.comparisons)


def _clauses(found: Mapping[str, Mapping[str, Sequence[str]]], verdict: str) -> list[str]:
    """`than A and B on all 3 evaluations`, variants with the same evaluations together."""
    together: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for name, verdicts in found.items():
        where = tuple(verdicts.get(verdict, ()))
        if where:
            together.setdefault((where, sum(map(len, verdicts.values()))), []).append(name)
    return [
        f"than {listed(names)} {_where(where, total)}" for (where, total), names in together.items()
    ]


def _where(names: Sequence[str], total: int) -> str:
    if len(names) <= NAMED:
        return f"on {listed(names)}"
    if len(names) == total:
        return f"on all {total} evaluations"
    return (
        f"on {len(names)} of {total} evaluations"
        if total
        else f"on any of {len(names)} evaluations"
    )


def _in_numbers(sections: Sequence[Section]) -> str:
    verdicts = [each.verdict for section in sections for each in section.comparisons]
    better, worse, unknown = (verdicts.count(each) for each in ("better", "worse", "unknown"))
    known = plural(len(verdicts) - unknown, "comparison")
    rest = f"; in {plural(unknown, 'other comparison')} {UNKNOWN}" if unknown else ""
    return (
        f"{_reference(sections)} is clearly better in {better} and clearly worse in {worse} of "
        f"{known} on {plural(len(sections), 'evaluation')}{rest}."
    )


def _detail(experiment: Experiment, sections: Sequence[Section]) -> str:
    config = experiment.config
    text = config.description.rstrip(".")
    said = _others(sections)
    said += [f"{text[:1].upper()}{text[1:]}."] if text else []
    if len(sections) == 1 and sections[0].with_numbers:
        said.append(sections[0].sentence)
    below = [s for s in sections if any(v.reference for v in s.below_floor)]
    if below:
        where = f"{len(below)} of {len(sections)} evaluations"
        if len(below) <= NAMED:
            where = listed([s.name for s in below])
        floors = dict.fromkeys(max(s.floors, key=lambda floor: floor[1])[0] for s in below)
        said.append(
            f"On {where} {_label(experiment)} stays below what needs no learning at all: "
            f"{listed(list(floors))}."
        )
    runs = [run for run in experiment.runs.values() if run.kind != "register"]
    unfinished = [run for run in runs if not run.finished]
    if unfinished:
        said.append(f"{len(unfinished)} of {plural(len(runs), 'run')} did not finish.")
    return " ".join(said)
