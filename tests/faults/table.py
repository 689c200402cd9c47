"""``python -m tests.faults.table RECORD``: the table of ``docs/faults.md``, from a run's record.

``make test-faults`` keeps the record, a line of JSON for each fault.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
HEAD = "| fault | noticed | after | steps lost | then | result |\n|---|---|---|---|---|---|\n"
EQUAL = {True: "equal, bit for bit", None: "–"}


def table(lines: list[dict[str, Any]]) -> str:
    """The rows, in the order in which the faults were tried; of one tried twice the last."""
    found = {line["fault"]: line for line in lines}
    return HEAD + "".join(
        "| " + " | ".join(cells(line)) + " |\n" for _, line in sorted(found.items())
    )


def cells(line: dict[str, Any]) -> list[str]:
    """One row."""
    lost = "–" if line["lost"] is None else str(line["lost"])
    seconds = f"{line['seconds']:.1f} s" if line["seconds"] else "–"
    return [line["fault"], line["found"], seconds, lost, line["after"], EQUAL[line["equal"]]]


def written(document: str, lines: list[dict[str, Any]], machine: str) -> str:
    """The document with this table in the place of the one that it has."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{machine}\n\n{table(lines)}{END}{after}"


def main() -> None:
    """Read the record that is named first, write the document."""
    record = Path(sys.argv[1])
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    load = os.getloadavg()[1]
    machine = (
        f"Measured on {time.strftime('%Y-%m-%d')}: {len(lines)} faults, {os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}; load average at the end "
        f"{load:.1f}."
    )
    DOCUMENT.write_text(written(DOCUMENT.read_text(), lines, machine))


if __name__ == "__main__":
    main()
