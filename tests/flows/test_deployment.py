"""The flow as a worker finds it: loaded from its file, its parameters checked by their types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# in a process of its own, as a worker does it; a string at the end tells of what was refused
LOADED = """
import json, sys
from prefect.exceptions import ParameterTypeError
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from sa3d.config.loading import load_experiment

flow = load_flow_from_entrypoint(sys.argv[1], use_placeholder_flow=False)
schema = parameter_schema(flow.fn).model_dump()
config = load_experiment("demo")
given = {"config": config.model_dump(mode="json"), "device": "cpu"}
same = flow.validate_parameters(given)["config"] == config
given["config"]["seeds"] = [-1]
try:
    flow.validate_parameters(given)
    refused = ""
except ParameterTypeError as error:
    refused = str(error)
print(json.dumps([schema, same, refused]))
"""


def test_parameters_have_a_schema_and_are_read_from_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, f"{ROOT / 'flows' / 'pipeline.py'}:experiment"],
        cwd=ROOT,
        env=os.environ | {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: tuple[dict[str, Any], bool, str] = json.loads(done.stdout)
    schema, same, refused = found
    assert schema["required"] == ["config"]
    assert list(schema["properties"]) == ["config", "out", "device", "quiet"]
    assert "ExperimentConfig" in schema["definitions"]
    assert schema["properties"]["device"]["enum"] == ["auto", "cpu", "cuda"]
    assert same
    assert "seeds" in refused
