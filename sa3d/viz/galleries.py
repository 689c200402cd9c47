"""Galleries of what runs leave for pictures: masks, heat maps, rebuilt clouds, parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sa3d.viz import explain as ex
from sa3d.viz import segmented as seg
from sa3d.viz.clouds import complexity_map
from sa3d.viz.gallery import Gallery, Key, Shot, Strip
from sa3d.viz.style import LIGHT, Palette

# by state: visible, masked at random, masked as hard
_MARKS = np.array([0, 1, 2])
_GLYPHS = "●■▲"  # the markers of parts, in words
_PART_MARKS = len(_GLYPHS)


def state_keys(palette: Palette, hard: bool) -> list[Key]:
    """The legend of masks."""
    keys = [Key("visible", palette.visible), Key("masked: random", palette.random, 1)]
    return [*keys, Key("masked: hard", palette.hard, 2)] if hard else keys


def _state_colors(palette: Palette) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(c) for c in (palette.visible, palette.random, palette.hard)])


def masked(data: ex.Explained, cloud: int, palette: Palette = LIGHT) -> Shot:
    """Which points of a cloud are masked, and why."""
    state = ex.point_state(data, cloud)
    return Shot(data.points[cloud], _state_colors(palette)[state], marks=_MARKS[state], fog=0.45)


def masks(
    columns: Sequence[tuple[str, ex.Explained]],
    clouds: Sequence[int],
    title: str,
    palette: Palette = LIGHT,
) -> Gallery:
    """The same clouds under several masks, a column a mask with its name."""
    first = columns[0][1]
    strips = [
        Strip([masked(data, cloud, palette) for _, data in columns], first.name(cloud))
        for cloud in clouds
    ]
    hard = any(bool(data.hard.any()) for _, data in columns)
    return Gallery(strips, title, [head for head, _ in columns], state_keys(palette, hard))


def complexity(
    data: ex.Explained, clouds: Sequence[int], title: str, palette: Palette = LIGHT
) -> Gallery:
    """How hard the model finds each part of a cloud: the points, and each patch at its centre."""
    colors = complexity_map(palette)
    shots = [
        Shot(
            data.points[cloud],
            colors(ex.point_complexity(data, cloud))[:, :3],
            data.name(cloud),
            fog=0.2,
        )
        for cloud in clouds
    ]
    across = 3
    strips = [Strip(shots[at : at + across]) for at in range(0, len(shots), across)]
    return Gallery(strips, title, complexity=True)


def reconstruction(
    data: ex.Explained, clouds: Sequence[int], title: str, palette: Palette = LIGHT
) -> Gallery:
    """What the model gets, what is masked, and what it makes of it, in three columns."""
    colors = _state_colors(palette)
    strips = []
    for cloud in clouds:
        points, state = data.points[cloud], ex.point_state(data, cloud)
        rebuilt, rebuilt_state = ex.rebuilt_points(data, cloud)
        seen = state == ex.VISIBLE
        both = np.concatenate([state[seen], rebuilt_state])
        strips.append(
            Strip(
                [
                    Shot(points, palette.muted),
                    masked(data, cloud, palette),
                    Shot(
                        np.concatenate([points[seen], rebuilt]),
                        colors[both],
                        marks=_MARKS[both],
                        fog=0.45,
                        around=points,
                    ),
                ],
                data.name(cloud),
            )
        )
    keys = state_keys(palette, bool(data.hard.any()))
    return Gallery(strips, title, ["input", "what is masked", "what is rebuilt"], keys)


def parts(
    data: seg.Segmented, clouds: Sequence[int], title: str, palette: Palette = LIGHT
) -> Gallery:
    """True and predicted parts, and where they differ."""
    from matplotlib.colors import to_rgb

    strips = []
    for cloud in clouds:
        place = {part: at for at, part in enumerate(data.parts(cloud))}
        tints = {part: to_rgb(seg.color_of(data, cloud, part)) for part in place}
        shots = []
        for kind in (data.truth[cloud], data.predicted[cloud]):
            rows = kind.tolist()
            marks = np.array([place[part] % _PART_MARKS for part in rows])
            shots.append(Shot(data.points[cloud], np.array([tints[part] for part in rows]),
                              marks=marks))  # fmt: skip
        wrong = data.wrong(cloud)
        ends = np.array([to_rgb(palette.visible), to_rgb(palette.hard)])
        flags = wrong.astype(np.int64)
        shots.append(
            Shot(data.points[cloud], ends[flags], note=f"{wrong.mean() * 100:.1f} % wrong",
                 marks=flags * 2)
        )  # fmt: skip
        names = "  ".join(
            f"{_GLYPHS[at % _PART_MARKS]} {seg.short_name(data, cloud, part)}"
            for part, at in place.items()
        )
        shots[0] = Shot(**{**vars(shots[0]), "note": names})
        strips.append(Strip(shots, data.name(cloud)))
    keys = [Key("right", palette.visible), Key("wrong", palette.hard, 2)]
    return Gallery(strips, title, ["truth", "predicted", "where they differ"], keys)


def named(
    clouds: Sequence[tuple[str, NDArray[np.float32]]],
    title: str,
    across: int = 6,
    color: str = LIGHT.link,
) -> Gallery:
    """Clouds as solids with their names, some beside each other."""
    shots = [Shot(points, color, name) for name, points in clouds]
    rows = [shots[at : at + across] for at in range(0, len(shots), across)]
    return Gallery([Strip(row) for row in rows], title)


def across(
    data: ex.Explained, clouds: Sequence[int], title: str, palette: Palette = LIGHT
) -> Gallery:
    """One mask on some clouds side by side, with their names."""
    shots = [Shot(**{**vars(masked(data, c, palette)), "caption": data.name(c)}) for c in clouds]
    return Gallery([Strip(shots)], title, keys=state_keys(palette, hard=True))
