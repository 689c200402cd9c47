"""What this machine offers and how SA3D is set up on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass

from sa3d import __version__
from sa3d.errors import UserError
from sa3d.tracking.lineage import kernels

PACKAGES = ("torch", "numpy", "scikit-learn", "h5py", "mlflow", "prefect", "dvc")


@dataclass(frozen=True)
class Finding:
    """One line; ``ok`` is false where something must be mended, and ``value`` says how."""

    name: str
    value: str
    ok: bool = True


def examine(device: str = "auto", threads: int | None = None) -> list[Finding]:
    """Look at Python, packages, device, kernels, CPU tuning and stores."""
    return [
        Finding("sa3d", __version__),
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        *_packages(),
        *_device(device, threads),
        _kernels(),
        _drop_ins(),
        _compiler(),
        *_stores(),
    ]


def _packages() -> list[Finding]:
    found = []
    for name in PACKAGES:
        try:
            found.append(Finding(name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(name, "not installed; run `make setup`", ok=False))
    return found


def _device(name: str, threads: int | None) -> list[Finding]:
    import torch

    from sa3d.engine.distributed import choose_device
    from sa3d.engine.tune import configure_cpu

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        device = choose_device(name)
    except UserError as error:
        return [Finding("device", str(error), ok=False)]
    label = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return [
        Finding("device", f"{device} ({label})"),
        Finding("cpu threads", f"{torch.get_num_threads()} of {os.cpu_count()}"),
        Finding("cpu tuning", configure_cpu().describe()),
    ]


def _kernels() -> Finding:
    try:
        import point_ops
    except ImportError as error:
        return Finding("point_ops", f"cannot be imported ({error}); run `make setup`", ok=False)
    return Finding("point_ops", kernels(point_ops.backends()))


def _drop_ins() -> Finding:
    """Whether ``pointnet2_ops`` and its like are ours, where ours are installed."""
    name = "drop-in names"
    try:
        import point_ops_compat
    except ImportError:
        return Finding(name, "not installed (extensions/compat)")
    strangers = point_ops_compat.check()
    return Finding(name, "; ".join(strangers) or "ours", ok=not strangers)


def _compiler() -> Finding:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    return Finding(
        "C++ compiler", compiler or "none; the kernels were built or fell back at installation"
    )


def _stores() -> list[Finding]:
    from sa3d.config.loading import endless_names, source_names
    from sa3d.config.obtain import absence
    from sa3d.tracking.mlflow_store import tracking_uri
    from sa3d.utils.paths import processed, root, work

    found = [Finding("root", str(root())), Finding("work", str(work()))]
    try:
        found.append(Finding("MLflow", tracking_uri()))
        endless = endless_names()
        for name in source_names():
            if name in endless:
                found.append(Finding(f"data {name}", "made while it is used"))
                continue
            there = processed(name).is_file() and absence(processed(name)) is None
            found.append(Finding(f"data {name}", str(processed(name)) if there else "not prepared"))
    except UserError as error:
        found.append(Finding("settings", str(error), ok=False))
    return found
