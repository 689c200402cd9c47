"""What every task's result states of the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_runs import context, run_of, tiny_clouds

from sa3d.config.experiment import ExperimentConfig
from sa3d.data.store import TEST
from sa3d.runs.result import result_of


@pytest.mark.parametrize(
    ("stated", "families"),
    [
        ({}, 8),
        ({"test": 32}, 8),
        ({"test": 12}, None),  # a part of the test clouds: how many families it has is not known
        ({"test": 12, "test_families": 5}, 5),
    ],
)
def test_families_of_the_test_clouds_are_counted(
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    stated: dict[str, Any],
    families: int | None,
) -> None:
    clouds = tiny_clouds(tiny)
    family = 1000 + np.arange(len(clouds.family))  # outside of the test clouds one each
    family[clouds.indices(TEST)] = np.repeat(np.arange(8), 4)
    made = result_of(
        run_of(tiny_config, "svm", "scratch"),
        context(tiny, tmp_path),
        replace(clouds, family=family),
        metrics={},
        seconds=0.0,
        data=stated,
        protocol={},
        artifacts={},
    )
    assert made.data.get("test_families") == families
    assert made.data["num_classes"] == 16
