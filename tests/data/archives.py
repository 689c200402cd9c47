"""A small archive, the same at any time of the day."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without the time of day
    return buffer.getvalue()


CLOUDS = zipped({"clouds/one.txt": b"1 2 3", "clouds/deep/two.txt": b"4 5 6"})
