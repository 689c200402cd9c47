"""The sixteen categories of the ``shapes`` source: one function builds one random object.

Each category draws its proportions anew, and some of its parts are optional, doubled or of
several kinds, so that neighbours overlap: a stool without its ring is nearly a small table, a
mug without handle nearly a vase, a sofa a wide armchair. Lengths are metres by feel, y is up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from sa3d.data.sources.shapes import furniture
from sa3d.data.sources.shapes.furniture import chance
from sa3d.data.sources.shapes.solids import (
    Assembly,
    Solid,
    box,
    ellipsoid,
    frustum,
    moved,
    plate,
    revolve,
    tube,
    turned,
)


@dataclass(frozen=True)
class Category:
    """``parts`` are all the part names ``build`` may use."""

    parts: tuple[str, ...]
    build: Callable[[Assembly, Generator], None]


def _lamp(out: Assembly, rng: Generator) -> None:
    h = rng.uniform(0.35, 1.6)
    wide = rng.uniform(0.12, 0.24)
    hanging = chance(rng, 0.2)
    if hanging:
        out.add("base", frustum((0, h, 0), (0, h - 0.03, 0), 0.07))
        bottom = 0.0
    else:
        out.add(
            "base",
            frustum(
                (0, 0, 0), (0, rng.uniform(0.02, 0.12), 0), wide * 0.9, wide * rng.uniform(0.3, 0.9)
            ),
        )
        bottom = h
    bend = rng.uniform(0.0, 0.35) * h if chance(rng, 0.35) else 0.0
    t = np.linspace(0, 1, 12)
    x = bend * t**3
    out.add("pole", tube(np.stack((x, t * h, np.zeros(12)), axis=1), rng.uniform(0.01, 0.03)))
    size = rng.uniform(0.12, 0.3)
    top = (bend if not hanging else 0.0, bottom, 0.0)
    if chance(rng, 0.9):
        low, high = size * rng.uniform(0.8, 1.2), size * rng.uniform(0.3, 0.9)
        tall = size * rng.uniform(0.7, 1.6)
        profile = [(low, -tall / 2), ((low + high) / 2, 0.0), (high, tall / 2)]
        out.add("shade", moved(revolve(profile), top))
    if chance(rng, 0.7):
        out.add("bulb", ellipsoid(top, (0.04, 0.06, 0.04)))


def _handle(x: float, low: float, high: float, reach: float, radius: float) -> Solid:
    """A bent bar beside a vessel's wall at distance x, from height low to high."""
    t = np.linspace(0, np.pi, 14)
    path = np.stack(
        (x + np.sin(t) * reach, low + (1 - np.cos(t)) / 2 * (high - low), t * 0), axis=1
    )
    return tube(path, radius)


def _mug(out: Assembly, rng: Generator) -> None:
    r, h = rng.uniform(0.3, 0.48), rng.uniform(0.55, 1.2)
    flare, belly = rng.uniform(0.8, 1.25), rng.uniform(0.9, 1.2)
    wall = 0.92
    out.add("body", revolve([(0, 0), (r, 0), (r * belly, h / 2), (r * flare, h)]))
    out.add(
        "inside",
        revolve([(0, 0.06), (r * wall, 0.06), (r * belly * wall, h / 2), (r * flare * wall, h)]),
    )
    handles = int(rng.choice(3, p=(0.15, 0.7, 0.15)))
    reach, thick = rng.uniform(0.18, 0.32), rng.uniform(0.03, 0.06)
    for i in range(handles):
        bar = _handle(r * 0.95, h * 0.2, h * 0.8, reach, thick)
        out.add("handle", turned(bar, 1, 180.0 * i))
    if chance(rng, 0.15):
        out.add("lid", revolve([(0, h + 0.1), (r * flare * 0.6, h + 0.06), (r * flare, h)]))


def _vase(out: Assembly, rng: Generator) -> None:
    h = rng.uniform(0.7, 1.6)
    knots = [0.0, 0.3, 0.6, 0.85, 1.0]
    radii = [
        rng.uniform(0.15, 0.35),
        *rng.uniform(0.2, 0.5, 2),
        rng.uniform(0.1, 0.4),
        rng.uniform(0.15, 0.4),
    ]
    t = np.linspace(0, 1, 12)
    profile = [(float(np.interp(s, knots, radii)), float(s * h)) for s in t]
    out.add("body", revolve([(0.0, 0.0), *profile]))
    if chance(rng, 0.6):
        rim = radii[-1]
        out.add(
            "rim",
            revolve([(rim, h), (rim * rng.uniform(1.05, 1.4), h * 1.03), (rim * 0.9, h * 1.05)]),
        )
    if chance(rng, 0.5):
        out.add("foot", frustum((0, -0.06, 0), (0, 0.02, 0), radii[0] * 1.15))
    reach, wall = rng.uniform(0.1, 0.25), float(np.interp(0.45, knots, radii))
    for i in range(int(rng.choice(3, p=(0.55, 0.2, 0.25)))):
        out.add("handle", turned(_handle(wall * 0.9, h * 0.4, h * 0.8, reach, 0.03), 1, 180.0 * i))


def _bottle(out: Assembly, rng: Generator) -> None:
    r, h = rng.uniform(0.18, 0.35), rng.uniform(0.6, 1.2)
    neck_r, neck_h = r * rng.uniform(0.25, 0.7), rng.uniform(0.1, 0.5)
    shoulder = rng.uniform(0.05, 0.3)
    waist = rng.uniform(0.85, 1.1)
    out.add("body", revolve([(0, 0), (r, 0), (r * waist, h / 2), (r, h)]))
    out.add("shoulder", revolve([(r, h), (r * 0.8, h + shoulder * 0.6), (neck_r, h + shoulder)]))
    top = h + shoulder + neck_h
    out.add("neck", revolve([(neck_r, h + shoulder), (neck_r * rng.uniform(0.8, 1.1), top)]))
    if chance(rng, 0.55):
        out.add("cap", frustum((0, top - 0.04, 0), (0, top + 0.06, 0), neck_r * 1.25))
    if chance(rng, 0.15):
        out.add("handle", _handle(r * 0.9, h * 0.35, h * 0.9, rng.uniform(0.1, 0.2), 0.03))


def _wing(root: float, tip: float, span: float, sweep: float, thick: float) -> Solid:
    """A tapered plate from the body outward along +x, its leading edge swept back (-z)."""
    outline = [(0, root / 2), (span, tip / 2 - sweep), (span, -tip / 2 - sweep), (0, -root / 2)]
    return plate(outline, thick)


def _airplane(out: Assembly, rng: Generator) -> None:
    length, r = rng.uniform(1.5, 2.4), rng.uniform(0.09, 0.17)
    out.add("body", ellipsoid((0, 0, 0), (r, r * rng.uniform(0.9, 1.3), length / 2)))
    span, root = rng.uniform(0.6, 1.3), rng.uniform(0.3, 0.6)
    sweep, y = rng.uniform(-0.1, 0.6), rng.uniform(-0.6, 0.8) * r
    at = (0, y, rng.uniform(-0.1, 0.25))
    wing = turned(
        _wing(root, root * rng.uniform(0.25, 0.9), span, sweep, 0.04), 2, rng.uniform(-3, 9)
    )
    out.mirrored("wing", moved(wing, at), 0)
    if chance(rng, 0.15):
        out.mirrored("wing", moved(wing, np.add(at, (0, 0.35, 0))), 0)
    tail = _wing(root * 0.6, root * 0.35, span * rng.uniform(0.25, 0.45), 0.1, 0.03)
    rear = -length / 2 + root * 0.4
    fin_h = rng.uniform(0.2, 0.45)
    out.add("tail", moved(turned(tail, 2, 90), (0, 0, rear)))
    out.mirrored("tail", moved(tail, (0, fin_h if chance(rng, 0.25) else 0.0, rear)), 0)
    engine_r = rng.uniform(0.04, 0.09)
    for i in range(int(rng.integers(0, 3))):
        x = span * (0.3 + 0.28 * i)
        z = at[2] - sweep * x / span + root * 0.25
        out.mirrored(
            "engine", frustum((x, y - 0.07, z - 0.15), (x, y - 0.07, z + 0.15), engine_r), 0
        )


def _rocket(out: Assembly, rng: Generator) -> None:
    h, r = rng.uniform(1.2, 2.2), rng.uniform(0.12, 0.3)
    nose = rng.uniform(0.25, 0.7)
    out.add("body", frustum((0, 0, 0), (0, h, 0), r, r * rng.uniform(0.75, 1.0)))
    out.add("nose", revolve([(r * 0.9, h), (r * 0.65, h + nose * 0.5), (0.0, h + nose)]))
    fins = int(rng.choice((0, 2, 3, 4), p=(0.1, 0.2, 0.35, 0.35)))
    fin = turned(_wing(0.5, 0.25, rng.uniform(0.15, 0.4), rng.uniform(0.05, 0.3), 0.03), 0, -90)
    for i in range(fins):
        out.add("fin", turned(moved(fin, (r * 0.9, 0.3, 0)), 1, 360.0 * i / fins))
    if chance(rng, 0.8):
        out.add(
            "nozzle", revolve([(r * 0.4, 0.0), (r * rng.uniform(0.5, 0.9), -rng.uniform(0.1, 0.3))])
        )
    if chance(rng, 0.3):
        for s in (-1, 1):
            x, tall = s * r * 1.7, h * rng.uniform(0.4, 0.7)
            out.add("booster", frustum((x, 0, 0), (x, tall, 0), r * 0.55, r * 0.4))


def _car(out: Assembly, rng: Generator) -> None:
    length, w, h = rng.uniform(1.6, 2.8), rng.uniform(0.8, 1.1), rng.uniform(0.28, 0.5)
    wheel = rng.uniform(0.17, 0.3)
    out.add("body", box((0, wheel + h / 2, 0), (w, h, length)))
    cabin, roof = length * rng.uniform(0.3, 0.8), rng.uniform(0.22, 0.55)
    slope, z = rng.uniform(0.5, 1.0), rng.uniform(-0.12, 0.12) * length
    vertices, faces = box((0, 0, 0), (w * 0.92, roof, cabin))
    vertices[vertices[:, 1] > 0] *= (0.9, 1.0, slope)
    if chance(rng, 0.9):
        out.add("cabin", moved((vertices, faces), (0, wheel + h + roof / 2, z)))
    axles = [-0.32, 0.32] if chance(rng, 0.85) else [-0.38, -0.2, 0.32]
    half = np.array((0.08, 0.0, 0.0))
    for axle in axles:
        for s in (-1, 1):
            at = np.array((s * w * 0.44, wheel, axle * length))
            out.add("wheel", frustum(at - half, at + half, wheel))
    if chance(rng, 0.25):
        out.add("spoiler", box((0, wheel + h + 0.15, -length * 0.46), (w * 0.9, 0.04, 0.18)))
    if chance(rng, 0.4):
        out.add("bumper", box((0, wheel + 0.08, length * 0.51), (w, 0.12, 0.1)))


def _guitar(out: Assembly, rng: Generator) -> None:
    """Built lying in the xz plane, then stood up on its body."""
    big, small = rng.uniform(0.3, 0.42), rng.uniform(0.2, 0.32)
    thick, waist = rng.uniform(0.06, 0.2), rng.uniform(0.25, 0.45)
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    circle = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    lobes = [plate(circle * r + (0.0, z), thick) for r, z in ((big, -0.25), (small, waist - 0.15))]
    parts: list[tuple[str, Solid]] = [("body", lobe) for lobe in lobes]
    length = rng.uniform(0.7, 1.1)
    end = waist + length
    parts.append(("neck", box((0, thick / 2, waist + length / 2), (0.08, 0.05, length))))
    wide = rng.uniform(0.12, 0.2)
    parts.append(("head", box((0, thick / 2 - 0.02, end + 0.12), (wide, 0.04, 0.26))))
    for z in end + np.linspace(0.04, 0.2, int(rng.integers(0, 4))):
        parts.append(("peg", frustum((-wide, thick / 2, z), (wide, thick / 2, z), 0.015)))
    if chance(rng, 0.8):
        parts.append(("bridge", box((0, thick / 2 + 0.02, -0.3), (0.25, 0.04, 0.06))))
    for part, solid in parts:
        out.add(part, turned(solid, 0, -90.0))


CATEGORIES: dict[str, Category] = {
    "airplane": Category(("body", "wing", "tail", "engine"), _airplane),
    "bed": Category(("frame", "mattress", "headboard", "pillow"), furniture.bed),
    "bench": Category(("seat", "leg", "back", "arm"), furniture.bench),
    "bookshelf": Category(("side", "shelf", "back", "books"), furniture.bookshelf),
    "bottle": Category(("body", "shoulder", "neck", "cap", "handle"), _bottle),
    "cabinet": Category(("body", "door", "handle", "foot"), furniture.cabinet),
    "car": Category(("body", "cabin", "wheel", "spoiler", "bumper"), _car),
    "chair": Category(("seat", "leg", "back", "arm"), furniture.chair),
    "guitar": Category(("body", "neck", "head", "peg", "bridge"), _guitar),
    "lamp": Category(("base", "pole", "shade", "bulb"), _lamp),
    "mug": Category(("body", "inside", "handle", "lid"), _mug),
    "rocket": Category(("body", "nose", "fin", "nozzle", "booster"), _rocket),
    "sofa": Category(("seat", "back", "arm", "foot"), furniture.sofa),
    "stool": Category(("seat", "leg", "ring", "back"), furniture.stool),
    "table": Category(("top", "leg", "shelf", "drawer"), furniture.table),
    "vase": Category(("body", "rim", "foot", "handle"), _vase),
}
