"""How long OpenMP's threads wait is set before torch is imported, unless the user has set it."""

import os
import subprocess
import sys

import pytest

LOOKS = """
import os, sys
from sa3d.cli import main
main.app = lambda **words: print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
main.main()
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_the_command_sets_what_the_user_has_not(given, found):
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", LOOKS], env=clean | given, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{found} False\n"
