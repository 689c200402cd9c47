"""Pictures as files: the suffix says which kind."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sa3d.utils.files import write_whole
from sa3d.utils.places import check_output
from sa3d.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: Final = (".png", ".svg", ".html")
DPI: Final = 180


def check_picture(out: Path, option: str, formats: tuple[str, ...] = FORMATS) -> None:
    """Refuse, before any work is done, a picture that cannot be written.

    Raises:
        UserError: another suffix, or a folder in which nothing can be written.
        ModuleNotFoundError: what draws it is not installed.
    """
    needs = ["matplotlib", *(["plotly"] if out.suffix.lower() == ".html" else [])]
    check_output(out, formats, needs, option)


def write_picture(out: Path, figure: Callable[[], Figure], page: Callable[[], str]) -> Path:
    """Draw what the suffix of ``out`` asks for, and write it, whole.

    Args:
        out: a name that :func:`check_picture` has let pass.
        figure: draws it for paper.
        page: writes it as one HTML file.

    Raises:
        WriteError: full disk, no permission.
    """
    with style.context():
        if out.suffix.lower() == ".html":
            return write_whole(out, page().encode())
        if out.suffix.lower() == ".png":
            return write_whole(out, style.png(figure(), dpi=DPI))
        buffer = io.BytesIO()
        figure().savefig(buffer, format="svg", dpi=DPI,
                         facecolor=style.LIGHT.paper, metadata={"Date": None})  # fmt: skip
        return write_whole(out, buffer.getvalue())
