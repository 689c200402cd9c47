"""A confusion matrix as a page: the counts of a cell under the mouse."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sa3d.viz.gallery import page
from sa3d.viz.style import Palette


def confusion_page(
    matrix: NDArray[np.int64], names: Sequence[str], palette: Palette, title: str
) -> str:
    """Rows are true classes, columns predictions; the tint is the share of the row."""
    import plotly.graph_objects as go

    shown = [html.escape(name) for name in names]
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    share[matrix == 0] = np.nan  # stays paper
    text = [[str(count) if count else "" for count in row] for row in matrix.tolist()]
    side = 320 + 24 * len(names)
    fig = go.Figure(go.Heatmap(
        z=share, x=shown, y=shown, text=text, texttemplate="%{text}", colorscale="Cividis",
        reversescale=True, zmin=0, zmax=1, xgap=1, ygap=1,
        colorbar={"title": "share", "tickformat": ".0%", "thickness": 12},
        hovertemplate="%{y} taken for %{x}: %{text} (%{z:.0%})<extra></extra>",
    ))  # fmt: skip
    fig.update_layout(
        title={"text": f"<b>{html.escape(title)}</b>"}, height=side, width=side + 180,
        paper_bgcolor=palette.paper, plot_bgcolor=palette.paper,
        font={"family": "system-ui, sans-serif", "color": palette.ink, "size": 12},
        xaxis={"title": "predicted", "tickangle": -90, "dtick": 1},
        yaxis={"title": "true", "autorange": "reversed", "dtick": 1},
    )  # fmt: skip
    return page(fig, title)
