"""Colours and type of every figure, and how a figure becomes a file or a part of a page.

A chart is drawn twice by the same function: with fixed colours for a PNG, and with marker
colours that :func:`svg` turns into CSS variables, so that a chart in the page follows the
reader's light or dark theme and stays sharp in print.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONTS = ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"]


@dataclass(frozen=True)
class Palette:
    """Colours by role.

    ``hard`` and ``random`` are masked patches, ``visible`` is what the student saw; the three
    differ in lightness, so that grey paper tells them apart.
    ``variant0`` to ``variant5`` tell variants apart also for colour-blind readers;
    ``untrained`` is the grey of random weights.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    link: str
    alert: str
    hard: str
    random: str
    visible: str
    variant0: str
    variant1: str
    variant2: str
    variant3: str
    variant4: str
    variant5: str
    untrained: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#1b1f27",
    muted="#5d6675",
    grid="#dfe3ea",
    link="#2b6cb8",
    alert="#c7431a",
    hard="#a8320f",
    random="#5b9bd9",
    visible="#cdd3db",
    variant0="#c7431a",
    variant1="#2b6cb8",
    variant2="#1a9c5a",
    variant3="#5a1a6b",
    variant4="#b98a00",
    variant5="#593a0a",
    untrained="#7b8494",
)
DARK = Palette(
    paper="#171b22",
    ink="#e8ebf0",
    muted="#9aa5b5",
    grid="#2f3641",
    link="#68b0ff",
    alert="#ff8355",
    hard="#ffb08c",
    random="#3f86d6",
    visible="#4a5464",
    variant0="#ff8355",
    variant1="#68b0ff",
    variant2="#2bd4a2",
    variant3="#8f6cf0",
    variant4="#ecd65a",
    variant5="#ffb8e6",
    untrained="#8b95a6",
)
VARIANTS: Final = tuple(f.name for f in fields(Palette) if f.name.startswith("variant"))
# Colours that stand for CSS variables until svg() replaces them; no chart uses them otherwise.
THEMED = Palette(*(f"#f0a0{place:02x}" for place in range(len(fields(Palette)))))


def variant_roles(
    variants: Sequence[str], reference: str, untrained: Collection[str]
) -> dict[str, str]:
    """The role of every variant: the reference first, the others in order, random weights grey.

    Of more than six trained variants the later ones take the colours of the earlier ones again,
    but never that of the reference.
    """
    trained = [name for name in variants if name not in untrained]
    others = itertools.cycle(VARIANTS[1:])
    roles = {name: VARIANTS[0] if name == reference else next(others) for name in trained}
    return roles | dict.fromkeys(untrained, "untrained")


def context() -> Any:
    """Matplotlib settings of the report: no global state is changed outside the context."""
    import matplotlib as mpl

    return mpl.rc_context(
        {
            "font.family": "sans-serif",
            "font.sans-serif": FONTS,
            "font.size": 9.0,
            "svg.fonttype": "none",
            "svg.hashsalt": "sa3d",
            "text.parse_math": False,  # a class called $x$ is a name, not a formula
            "axes.unicode_minus": True,
            "path.simplify": True,
        }
    )


def figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` x ``height`` inches, without pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def bare(axes: Any, palette: Palette, *, grid: str = "y") -> None:
    """Quiet axes: no frame, light grid behind the data, muted tick labels."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=palette.grid, linewidth=0.8)
    axes.tick_params(colors=palette.muted, labelcolor=palette.muted, length=0, labelsize=8.5)


def png(fig: Figure, *, dpi: int = 160, background: str | None = LIGHT.paper) -> bytes:
    """The figure as PNG bytes."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, facecolor=background or "none")
    return buffer.getvalue()


def svg(fig: Figure, label: str, key: str) -> str:
    """The figure as an ``<svg>`` element to stand inside a page.

    Colours of :data:`THEMED` become ``var(--role)``; ids begin with ``key``, which must be unique
    in the page; nothing in it refers to any address.
    """
    from markupsafe import escape

    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    prefix = f"{key}-"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--sans)", text)
    text = re.sub(r"(font: (?:bold|600|700) [\d.]+px) [^;\"]*", r"\1 var(--sans)", text)
    for role in fields(Palette):
        text = text.replace(getattr(THEMED, role.name), f"var(--{role.name})")
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    opening = f'<svg class="chart" viewBox="{box[1]}" role="img" aria-label="{escape(label)}">'
    text = opening + text[text.index(">") + 1 :]
    return re.sub(r"\n\s*", "\n", text)
