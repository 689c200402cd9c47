"""Pictures one after the other: as a GIF, or as a page with a slider."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from typing import Final

MILLISECONDS: Final = 220
_LAST: Final = 1600  # the last one stays longer


def gif(frames: Sequence[bytes]) -> bytes:
    """PNG images as one GIF that begins again at its end."""
    from PIL import Image

    images = [Image.open(io.BytesIO(frame)).convert("RGB").quantize(96) for frame in frames]
    buffer = io.BytesIO()
    times = [MILLISECONDS] * (len(images) - 1) + [_LAST]
    images[0].save(buffer, format="GIF", save_all=True, append_images=images[1:], duration=times,
                   loop=0, disposal=1)  # fmt: skip
    return buffer.getvalue()


def slider(frames: Sequence[bytes], labels: Sequence[str], title: str) -> str:
    """PNG images as one HTML file with a slider and a button that plays them."""
    sources = json.dumps(["data:image/png;base64," + base64.b64encode(f).decode() for f in frames])
    names = json.dumps(list(labels)).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px system-ui, sans-serif; margin: 24px auto; max-width: 1100px; color: #1b1f27 }}
img {{ width: 100%; height: auto }}
form {{ display: flex; gap: 12px; align-items: center }}
input {{ flex: 1 }}
output {{ min-width: 9em; text-align: right }}
</style></head><body>
<img id="picture" alt="{html.escape(title)}">
<form><button type="button" id="play">Play</button>
<input id="at" type="range" min="0" max="{len(frames) - 1}" value="{len(frames) - 1}"
 aria-label="epoch"><output id="name"></output></form>
<script>
const sources = {sources}, names = {names};
const at = document.getElementById("at"), play = document.getElementById("play");
let timer = null;
function show() {{
  document.getElementById("picture").src = sources[at.value];
  document.getElementById("name").value = names[at.value];
}}
function stop() {{ clearInterval(timer); timer = null; play.textContent = "Play"; }}
at.addEventListener("input", () => {{ stop(); show(); }});
play.addEventListener("click", () => {{
  if (timer !== null) return stop();
  play.textContent = "Stop";
  timer = setInterval(() => {{
    at.value = (+at.value + 1) % names.length;
    show();
  }}, {MILLISECONDS});
}});
show();
</script></body></html>
"""
