"""Which extra of the wheel brings what a command lacks."""

from __future__ import annotations

from typing import Final

EXTRAS: Final[dict[str, str]] = {
    "mlflow": "mlflow",
    "matplotlib": "report",
    "jinja2": "report",
    "markupsafe": "report",
    "PIL": "report",
    "trimesh": "data",
    "mapbox_earcut": "data",
    "pypcd4": "data",
    "ruamel": "data",
    "httpx": "data",
    "laspy": "data",
    "lazrs": "data",
    "pyarrow": "parquet",
    "plotly": "show",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "fastapi": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "prometheus_client": "serve",
}
"""Modules that ``sa3d`` imports and the wheel alone does not ask for, each with its extra."""


def missing(error: ModuleNotFoundError) -> str | None:
    """What to install for a module that is not there; None: no extra has it."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(module)
    if extra is None:
        return None
    return f"this needs {module}, which is not installed: pip install 'sa3d[{extra}]'"
