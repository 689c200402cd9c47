"""What was found in a folder, as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sa3d.data.sources.folder.sample import Sampled
from sa3d.data.sources.folder.source import Survey
from sa3d.data.store import TEST, TRAIN, VALIDATION

_HEADER = (
    "class",
    "files",
    "unreadable",
    "left out",
    "train",
    "validation",
    "test",
    "families",
    "formats",
    "triangles",
    "points",
)


def table(survey: Survey) -> list[str]:
    """Lines: a row a class, and one for all of them."""
    every = [one.file.class_name for one in (*survey.read, *survey.unreadable)]
    names = sorted(set(every))
    rows = [_HEADER, *(_row(survey, name) for name in names)]
    if len(names) > 1:
        rows.append(_row(survey, None))
    used = [at for at in range(len(_HEADER)) if any(row[at] not in ("0", "") for row in rows[1:])]
    widths = [max(len(row[at]) for row in rows) for at in used]
    return [
        "  ".join(row[at].ljust(width) for at, width in zip(used, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(survey: Survey, name: str | None) -> tuple[str, ...]:
    """One class; None: all of them."""
    plan, read = survey.plan, survey.read
    own = [one for one in read if name in (None, one.file.class_name)]
    bad = [one for one in survey.unreadable if name in (None, one.file.class_name)]
    label = np.array([name in (None, plan.class_names[at]) for at in plan.labels.tolist()], bool)
    splits = [int((plan.split[label] == split).sum()) for split in (TRAIN, VALIDATION, TEST)]
    kinds = Counter(one.file.kind for one in (*own, *bad))
    return (
        name or "all",
        str(len(own) + len(bad)),
        str(len(bad)),
        str(len(own) - int(label.sum())),  # copies, and geometry of several classes
        *map(str, splits),
        str(len(np.unique(plan.family[label]))),
        " ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        _range([one for one in own if one.kind == "mesh"]),
        _range([one for one in own if one.kind == "cloud"]),
    )


def _range(files: Sequence[Sampled]) -> str:
    if not files:
        return ""
    least, most = min(one.count for one in files), max(one.count for one in files)
    return str(least) if least == most else f"{least} to {most}"
