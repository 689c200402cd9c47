"""Says so when a drop-in name stands beside the original it stands in for."""

import importlib.util
import sys
import warnings
from importlib import metadata
from pathlib import Path

# Distributions that install the import names we take, as they call themselves.
ORIGINALS = {
    "pointnet2_ops": ("pointnet2_ops",),
    "knn_cuda": ("KNN_CUDA", "knn_cuda"),
    "chamfer": ("chamfer",),
    "chamfer_dist": ("chamfer_dist",),
    "emd": ("emd", "emd_ext"),
    "emd_cuda": ("emd_cuda", "emd_ext", "emd"),
}


def rivals(name: str, here: str) -> list[str]:
    """Other owners of the import name `name`: installed distributions and folders on sys.path.

    Args:
        name: the import name.
        here: ``__file__`` of the drop-in module.
    """
    found = []
    for distribution in ORIGINALS[name]:
        try:
            found.append(f"{distribution} {metadata.version(distribution)}")
        except metadata.PackageNotFoundError:
            continue
    file = Path(here).resolve()
    mine = file.parent.parent if file.name == "__init__.py" else file.parent
    for entry in sys.path:
        folder = Path(entry or ".").resolve()
        if folder == mine or not folder.is_dir():
            continue
        if (folder / name / "__init__.py").exists() or any(folder.glob(f"{name}.*[ydo]")):
            found.append(str(folder / name))
    return found


def claim(name: str, here: str) -> None:
    """Warn when `name` is also provided by something else."""
    others = rivals(name, here)
    if others:
        warnings.warn(
            f"{name}: this is point-ops-compat, but {', '.join(others)} provides the same name. "
            "Uninstall that one, then reinstall point-ops-compat with --force-reinstall: "
            "pip removes shared paths whoever wrote them.",
            RuntimeWarning,
            stacklevel=3,
        )


def check() -> list[str]:
    """The drop-in names that are not ours, each with what answers for it; empty when all is well.

    Unlike the warning of an import, this also sees an original that is found before our module or
    was installed over it. Nothing is imported.
    """
    return [f"{name}: {found}" for name in ORIGINALS if (found := _stranger(name))]


def _stranger(name: str) -> str:
    """What would answer an import of `name`, or nothing if that is our file."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return "not installed"
    if spec.origin is None or not spec.has_location:
        return f"answered by {spec.origin or 'a folder without __init__.py'}"
    # The call is in every drop-in and nowhere else: an overwritten file has our path, but not it.
    ours = f'claim("{name}", __file__)'.encode() in Path(spec.origin).read_bytes()
    return "" if ours else f"answered by {spec.origin}"
