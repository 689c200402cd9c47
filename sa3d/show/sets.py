"""Pictures of files and of processed data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.data.dense import dense_points
from sa3d.data.mesh import Mesh
from sa3d.data.preprocessing import Axis, unit_sphere_float64, upright
from sa3d.data.readers import read_cloud_or_mesh
from sa3d.data.store import TEST, CloudSet, check_cloud, open_clouds
from sa3d.errors import DataError
from sa3d.utils.paths import processed
from sa3d.viz.embedding import Plane, spread_out

if TYPE_CHECKING:
    from sa3d.inference.encoder import Encoder

_MOST_POINTS: Final = 40000
_PERPLEXITY: Final = 30


def dense(path: Path, up: Axis) -> NDArray[Any]:
    """Many points of a mesh, or those of a cloud, y up.

    Raises:
        DataError: it cannot be read.
    """
    found = read_cloud_or_mesh(path)
    if isinstance(found, Mesh):
        return dense_points(found, up)
    points = found.points
    if len(points) > _MOST_POINTS:
        keep = np.random.default_rng(0).choice(len(points), _MOST_POINTS, replace=False)
        points = points[np.sort(keep)]
    check_cloud(points, str(path))
    return upright(unit_sphere_float64(points), up)


def open_set(name: str) -> CloudSet:
    """A processed data set by its name, or by the path of its file.

    Raises:
        DataError: there is none.
    """
    return open_clouds(Path(name) if name.endswith(".h5") else processed(name))


def samples(clouds: CloudSet, most: int) -> list[tuple[str, NDArray[np.float32]]]:
    """The first test cloud of each class, with its name; classes evenly spread where they are
    more than ``most``.

    Raises:
        DataError: no test clouds.
    """
    test = clouds.indices(TEST)
    classes = np.unique(clouds.labels[test])
    if len(classes) == 0:
        raise DataError(f"{clouds.path} has no test clouds")
    if len(classes) > most:
        classes = classes[np.unique(np.linspace(0, len(classes) - 1, most).round().astype(int))]
    rows = [int(test[clouds.labels[test] == label][0]) for label in classes]
    return [(clouds.class_names[clouds.labels[row]], clouds.cloud(row)) for row in rows]


def class_count(clouds: CloudSet) -> int:
    """How many classes have test clouds."""
    return len(np.unique(clouds.labels[clouds.indices(TEST)]))


def plane(clouds: CloudSet, encoder: Encoder, how: str, seed: int, watch: Any) -> Plane:
    """The test clouds of a data set, by their features, on a plane.

    Args:
        clouds: the data set.
        encoder: makes the features.
        how: ``tsne`` or ``pca``.
        seed: of t-SNE.
        watch: goes through the clouds, to show progress.

    Raises:
        DataError: fewer than four test clouds.
    """
    rows = clouds.indices(TEST)
    if len(rows) < 4:
        raise DataError(f"{clouds.path} has {len(rows)} test clouds; a map needs 4 or more")
    found = encoder.embed_all(clouds.cloud(row) for row in watch(rows.tolist()))
    places = _reduced(found.features, how, seed)
    thumbnails: Sequence[tuple[int, NDArray[Any]]] = [
        (at, clouds.cloud(int(rows[at]))) for at in spread_out(places)
    ]
    words = {"tsne": f"t-SNE, seed {seed}", "pca": "the two main components"}[how]
    return Plane(
        places,
        clouds.labels[rows],
        clouds.class_names,
        tuple(clouds.ids[row] for row in rows),
        thumbnails,
        f"{len(rows)} test clouds, standardised features, {words}; distances between far groups "
        "mean nothing",
    )


def _reduced(features: NDArray[np.float32], how: str, seed: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    spread = features.std(axis=0)
    rows = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if how == "pca":
        return np.asarray(PCA(2, random_state=seed).fit_transform(rows), dtype=np.float64)
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    made = TSNE(2, init="pca", perplexity=perplexity, random_state=seed, metric="cosine")
    return np.asarray(made.fit_transform(rows), dtype=np.float64)
