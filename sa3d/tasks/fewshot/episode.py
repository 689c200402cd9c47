"""The episode of a run, and that the data set has it; known before anything is computed."""

from __future__ import annotations

from sa3d.data import episodes
from sa3d.data.store import CloudSet, EpisodeRows
from sa3d.runs.config import RunConfig
from sa3d.tasks.fewshot.task import FewshotConfig


def episode_of(clouds: CloudSet, settings: FewshotConfig, fold: int) -> tuple[EpisodeRows, str]:
    """The episode of a fold, and in words where it comes from.

    Raises:
        DataError: the data set has too few clouds for it, or does not bring it.
    """
    size = {
        "way": settings.way,
        "shot": settings.shot,
        "queries": settings.queries,
        "fold": fold,
    }
    brought = episodes.published(clouds, settings.way, settings.shot)
    if settings.episodes == "published" or (settings.episodes == "auto" and brought):
        return episodes.published_episode(clouds, **size), "published with the data set"
    found = episodes.drawn_episode(clouds, **size, seed=settings.episode_seed)
    return found, (
        f"drawn with seed {settings.episode_seed}: training clouds from the training split, test "
        "clouds from the test split, of each class from as many families as there are"
    )


def check(config: RunConfig, clouds: CloudSet) -> None:
    """That the data set has the run's episode.

    Raises:
        DataError: as :func:`episode_of`.
    """
    settings = config.settings
    assert isinstance(settings, FewshotConfig)
    episode_of(clouds, settings, config.spec.fold or 0)
