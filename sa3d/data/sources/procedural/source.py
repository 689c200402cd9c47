"""The ``procedural`` source: random compositions of solids, made from a seed, without an end.

Cloud ``number`` of a stream depends on (settings, stream, number) alone, so that workers may make
them in any order and a resumed run meets the same ones. The first numbers of a cloud's own random
stream decide its :class:`~sa3d.data.sources.procedural.composing.Recipe`; of a composition of which
next to nothing remains, another is drawn by the same recipe, so that the stated shares hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.random import Generator, Philox

from sa3d.config.endless import EndlessSource, digest_of
from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.endless import HELD_OUT, Made, training_stream
from sa3d.data.raw import RawCheck
from sa3d.data.sources.procedural import effects
from sa3d.data.sources.procedural.composing import (
    JOININGS,
    Composition,
    Recipe,
    compose,
    draw_recipe,
)
from sa3d.data.sources.procedural.settings import ProceduralSource
from sa3d.data.sources.procedural.solids import Array
from sa3d.data.sources.procedural.surface import Keep, sample
from sa3d.data.writing import write_clouds
from sa3d.errors import DataError
from sa3d.utils.progress import ProgressBar

GENERATOR_VERSION: Final = 1
"""Raised whenever the generated clouds change, so that the digest changes with them."""
CLASS_NAMES: Final[tuple[str, ...]] = JOININGS

SPLIT = "The test clouds are a stream of their own, which no training draws."

_ATTEMPTS = 50


def generate(source: EndlessSource, stream: int, numbers: Sequence[int]) -> Made:
    """Clouds ``numbers`` of a stream; see :mod:`sa3d.data.endless`."""
    assert isinstance(source, ProceduralSource)
    points = np.empty((len(numbers), source.points, 3), dtype=np.float32)
    labels = np.empty(len(numbers), dtype=np.int64)
    for row, number in enumerate(numbers):
        rng = random_stream(source, stream, number)
        recipe = draw_recipe(source, rng)
        points[row] = make_cloud(source, recipe, rng)
        labels[row] = JOININGS.index(recipe.joining)
    return Made(points, labels)


def random_stream(source: ProceduralSource, stream: int, number: int) -> Generator:
    """The random numbers of one cloud."""
    # a counter-based generator: starting it anywhere costs nothing
    return Generator(Philox(key=source.seed, counter=[0, 0, stream, number]))


def make_cloud(source: ProceduralSource, recipe: Recipe, rng: Generator) -> Array:
    """One cloud (source.points, 3) of a recipe, in the unit sphere.

    Raises:
        DataError: 50 compositions one after the other had no surface left.
    """
    for _ in range(_ATTEMPTS):
        points = sample(
            whole := compose(recipe, rng), source.points, _keeps(recipe, whole, rng), rng
        )
        if points is not None:
            break
    else:
        raise DataError(
            f"no procedural cloud of {recipe} keeps any surface in {_ATTEMPTS} attempts"
        )
    points = effects.centred(points * rng.uniform(0.75, 1.3, 3))
    if recipe.dents:
        points = effects.dented(points, rng)
    if recipe.displacement:
        points = effects.displaced(points, rng)
    if recipe.deformation:
        points = effects.deformed(points, rng)
    if recipe.noise:
        points = points + rng.uniform(0.0, source.noise_sd) * rng.standard_normal(points.shape)
    return effects.centred(points)


def _keeps(recipe: Recipe, whole: Composition, rng: Generator) -> list[Keep]:
    keeps = []
    if recipe.cut:
        keeps.append(effects.plane_cut(whole, rng))
    if recipe.partial_view:
        keeps.append(effects.one_view(whole, rng))
    if recipe.density:
        keeps.append(effects.uneven(whole, rng))
    return keeps


def prepare(source: ProceduralSource, out: Path, *, quiet: bool = False) -> Path:
    """A file of the held-out clouds (test) and as many of the first training clouds, to look at or
    to evaluate on. Pre-training does not need it."""
    count = source.held_out
    numbers = range(count)
    made = []
    with ProgressBar("generating", 2 * count, "clouds", quiet=quiet) as bar:
        for stream in (training_stream(0), HELD_OUT):
            for number in numbers:
                made.append(generate(source, stream, [number]))
                bar.update()
    table = CloudTable(
        ids=[f"{part}/{number:06d}" for part in ("train", "held-out") for number in numbers],
        labels=np.concatenate([each.labels for each in made]),
        split=np.repeat(np.array([0, 1], dtype=np.uint8), count),
        family=np.arange(2 * count),
        class_names=CLASS_NAMES,
        source_hash=digest_of(source),
        normalisation="subsample",
    )
    facts = {"licence": source.about.licence, "split": SPLIT}
    return write_clouds(out, (Cloud(each.points[0]) for each in made), table, facts=facts)


def check_raw(source: ProceduralSource) -> RawCheck:
    """Nothing is needed."""
    return RawCheck(None)
