"""Which shapes of an index are like the clouds of a request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sa3d.data.preprocessing import Axis
from sa3d.inference.index import Model, absolute, check_encoder, open_index
from sa3d.inference.neighbours import nearest_of
from sa3d.service.bodies import Asked


class Neighbours:
    """An index and its encoder, loaded.

    Args:
        place: file of the index.

    Raises:
        DataError: no index there, or a damaged one.
        CheckpointError: its encoder is gone, or has other weights now.
    """

    def __init__(self, place: Path) -> None:
        self._index = open_index(place)
        model = Model(self._index.model)
        check_encoder(self._index, model)
        self._encoder, self._folder = model.encoder, absolute(place).parent

    def __len__(self) -> int:
        return len(self._index)

    def of(
        self, asked: Sequence[Asked], up: Axis, top: int, pictures: bool
    ) -> list[list[dict[str, Any]]]:
        """The ``top`` most similar shapes of each cloud, best first.

        Args:
            asked: clouds.
            up: the axis of them that points up.
            top: how many.
            pictures: whether the points of the shapes are added.

        Raises:
            DataError: a cloud that is none.
        """
        features = self._encoder.embed([each.points for each in asked], up=up)
        return [
            [
                {
                    "path": os.path.relpath(near.path, self._folder),
                    "similarity": near.similarity,
                    **(
                        {"shown": self._index.cloud(near.row).round(4).tolist()} if pictures else {}
                    ),
                }
                for near in row
            ]
            for row in nearest_of(self._index, features, top)
        ]
