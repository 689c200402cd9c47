"""The data sets of a run, as MLflow lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sa3d.tracking import lineage
from sa3d.utils.paths import shown

SOURCE_TYPE: Final = "dvc"
GENERATED_TYPE: Final = "generated"
Part = Literal["train", "test"]
Context = Literal["training", "test"]
USES: Final[tuple[tuple[Part, Context], ...]] = (("train", "training"), ("test", "test"))
"""What a run that trains and tests reads of a data set, and for what."""
_DIGEST: Final = 16  # characters: enough to tell data apart, and MLflow's table shows them all


@dataclass(frozen=True)
class DataUse:
    """One part of a data set, and what a run does with it.

    Attributes:
        name: of the data set.
        part: ``train`` or ``test``. It is part of the name in MLflow, which lists a name and
            digest only once a run.
        context: what it is for.
        digest: of the content of the processed file.
        clouds: the processed file; None: the clouds are made while they are used.
        facts: further facts for the profile.
    """

    name: str
    part: Part
    context: Context
    digest: str
    clouds: Path | None
    facts: Mapping[str, Any]

    def as_entry(self) -> dict[str, Any]:
        """Fields of the journal's line.

        The source is the path that DVC tracks, with the hash that ``dvc.lock`` has of it where it
        has one of a file of this size, and the commit under which that hash is found.
        """
        entry: dict[str, Any] = {
            "name": f"{self.name}/{self.part}",
            "digest": self.digest[:_DIGEST],
            "context": self.context,
            "profile": {"digest": self.digest, **self.facts},
        }
        if self.clouds is None:
            return entry | {"source_type": GENERATED_TYPE, "source": {"data_set": self.name}}
        source = {"path": shown(self.clouds), "rev": lineage.git().get("git.commit")}
        out = lineage.data_out(self.name)
        if out and self.clouds.is_file() and out.get("size") == self.clouds.stat().st_size:
            source["md5"] = str(out["md5"])
        stated = {key: value for key, value in source.items() if value}
        return entry | {"source_type": SOURCE_TYPE, "source": stated}
