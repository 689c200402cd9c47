"""What the whole page says in two lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sa3d.report.results import Experiment
from sa3d.report.sections import Section, variants_of
from sa3d.report.wording import listed, plural

LONGEST = 260  # characters of a verdict; beyond, comparisons are counted
NAMED = 2  # evaluations that are named rather than counted


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
        title += f" against {listed(labels[1:], 'and')}"
    title += f", {config.model.backbone}"
    return Headline(title, _verdict(experiment, sections), _detail(experiment, sections))


def _verdict(experiment: Experiment, sections: Sequence[Section]) -> str:
    if not sections:
        done = [run for run in experiment.runs.values() if run.kind == "pretrain" and run.finished]
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
    """Every other variant with the evaluations on which the reference is ahead or behind."""
    found: dict[str, dict[str, list[str]]] = {}
    for section in sections:
        for each in section.comparisons:
            of_variant = found.setdefault(each.second.label, {})
            of_variant.setdefault(each.verdict, []).append(section.name)
    first = next(s.comparisons[0].first.label for s in sections if s.comparisons)
    parts = []
    for verdict, begin, link in (
        ("better", "clearly better", "than"),
        ("worse", "clearly worse", "than"),
        ("unclear", "not clearly different", "from"),
    ):
        clauses = _clauses(found, verdict, link)
        if clauses:
            parts.append(f"{begin} {listed(clauses)}")
    return f"{first} is {'; '.join(parts)}."


def _clauses(
    found: Mapping[str, Mapping[str, Sequence[str]]], verdict: str, link: str
) -> list[str]:
    """`than A and B on all 3 evaluations`, variants with the same evaluations together."""
    together: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for label, verdicts in found.items():
        names = tuple(verdicts.get(verdict, ()))
        total = sum(map(len, verdicts.values()))
        if names:
            together.setdefault((names, total), []).append(label)
    return [
        f"{link} {listed(labels, 'and')} {_where(names, total)}"
        for (names, total), labels in together.items()
    ]


def _where(names: Sequence[str], total: int) -> str:
    if len(names) == total:
        return f"on {names[0]}" if total == 1 else f"on all {total} evaluations"
    if len(names) <= NAMED:
        return f"on {listed(names)}"
    return f"on {len(names)} of {total} evaluations"


def _in_numbers(sections: Sequence[Section]) -> str:
    verdicts = [each.verdict for section in sections for each in section.comparisons]
    first = next(s.comparisons[0].first.label for s in sections if s.comparisons)
    better, worse = verdicts.count("better"), verdicts.count("worse")
    return (
        f"{first} is clearly better in {better} and clearly worse in {worse} of "
        f"{plural(len(verdicts), 'comparison')} on {plural(len(sections), 'evaluation')}."
    )


def _detail(experiment: Experiment, sections: Sequence[Section]) -> str:
    config = experiment.config
    said = [f"{config.description.rstrip('.')}."] if config.description else []
    if len(sections) == 1 and sections[0].with_numbers:
        said.append(sections[0].sentence)
    runs = [run for run in experiment.runs.values() if run.kind != "register"]
    unfinished = [run for run in runs if not run.finished]
    if unfinished:
        said.append(f"{len(unfinished)} of {plural(len(runs), 'run')} did not finish.")
    return " ".join(said)
