"""A whole training step by the GPU's kernels, executed by Triton's interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
HERE = Path(__file__)
EMBEDDINGS = {"point-mae": 1, "point-m2ae": 3}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", EMBEDDINGS)
def test_a_step_of_sa3df_by_the_kernels_of_a_gpu_is_that_of_the_cpu(backbone):
    paths = [str(HERE.parents[1]), *filter(None, sys.path)]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE.with_name("triton_step.py")), backbone],
        env={
            **os.environ,
            "TRITON_INTERPRET": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(paths),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    calls = json.loads(run.stdout)
    student = EMBEDDINGS[backbone]  # two normalisations and two maxima each; and two teachers
    assert calls["norm_relu"] == calls["norm_relu_backward"] == 2 * student
    assert calls["norm_relu_fixed"] == 4 * student
    assert calls["group_max"] == 6 * student
    assert calls["group_max_backward"] == 2 * student
    assert min(calls[name] for name in ("fps", "knn", "chamfer")) > 0
