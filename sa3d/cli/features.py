"""``sa3d features``: the frozen features of clouds in files."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa3d.cli.options import Quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sa3d.inference.serving import FeatureModel


def features(
    model: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|models:/NAME@ALIAS",
            help="Run folder of a pre-training, its `model` folder, or a registered model.",
        ),
    ],
    files: Annotated[list[Path], typer.Argument(help="Clouds: npy, xyz, txt, ply, pcd, …")],
    out: Annotated[Path, typer.Option("--out", help="File of the features (B, D).")] = Path(
        "features.npy"
    ),
    quiet: Quiet = False,
) -> None:
    """Turn clouds into features, one row for each file, in their order."""
    import numpy as np

    from sa3d.utils.files import write_whole

    encoder = _model(model)
    found = encoder.predict([_points(file) for file in files])
    buffer = io.BytesIO()
    np.save(buffer, found)
    write_whole(out, buffer.getbuffer())
    if not quiet:
        print(f"{out}: {found.shape[0]} rows of {found.shape[1]} features")


def _model(text: str) -> FeatureModel:
    """The model of a folder or of the registry, read by the code of this installation.

    Raises:
        UserError: there is none.
    """
    from sa3d.checkpoints.card import FOLDER, find_model
    from sa3d.inference.serving import FeatureModel

    if not text.startswith("models:/"):
        return FeatureModel(find_model(Path(text)))

    from sa3d.tracking import keys
    from sa3d.tracking.versions import download, find, reference, store

    name, which = reference(text, keys.CHAMPION)
    with store() as opened, tempfile.TemporaryDirectory() as scratch:
        version = find(opened, name, which)
        return FeatureModel(download(opened, version, f"data/{FOLDER}", scratch))


def _points(file: Path) -> NDArray[Any]:
    from sa3d.data.cloud_table import Cloud
    from sa3d.data.readers import read_cloud_or_mesh
    from sa3d.errors import DataError

    found = read_cloud_or_mesh(file)
    if not isinstance(found, Cloud):
        raise DataError(f"{file} is a surface; give points, as `sa3d data prepare` samples them")
    return found.points
