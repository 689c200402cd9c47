"""A training process does not grow from step to step, nor by the data set that it goes through."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "data_growth.py"
STEPS = 600


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="counts are Linux's")
def test_memory_is_flat_over_steps_and_sets(tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARK, "memory", "--clouds", "50", "1000", "--threads", "1"]
    command += ["--stored", "8192", "--steps", str(STEPS), "--folder", tmp_path]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = re.findall(r"\| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|", told)
    found = {
        clouds: [(int(step), float(mib)) for of, step, mib, _ in rows if of == clouds]
        for clouds in ("50", "1000")
    }
    for points in found.values():
        warm = [mib for step, mib in points if step >= STEPS // 5]
        assert len(warm) >= 4
        assert points[-1][0] >= STEPS
        assert max(warm) - min(warm) < 30
    # the larger set has 89 MiB more of points
    assert abs(found["1000"][-1][1] - found["50"][-1][1]) < 45
