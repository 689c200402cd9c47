"""What pre-training on larger data sets would take, by multiplication of what was measured: for
``benchmarks/growth.py paper``. Nothing runs here."""

from __future__ import annotations

from typing import Final

PRICE: Final = 3.0  # USD for an hour of one H100; an assumption
SETS: Final = {"ShapeNet55": 52_470, "Objaverse-size": 800_000, "10 million": 10_000_000}
POINTS: Final = 8192  # stored of each cloud, as of ShapeNet55
POINT_BYTES: Final = 12  # three float32, stored without compression
SPOOL: Final = 3  # `prepare` takes so many times the data set's size on the disk

# samples a second of Point-MAE, bf16, batch 128 on one H100 (docs/performance.md): SA3DF, and the
# plain method that its knowledge teacher is trained by; and epochs of both, from params.yaml
RATES: Final = {"recorded": (3370.2, 8780.5), "compiled and recorded": (4324.2, 10_983.0)}
EPOCHS: Final = (400, 301)
PREPARED: Final = {"binary files (.npy)": 755.0, "text files": 141.0}  # clouds/s, docs/growth.md
INDEX_BYTES: Final = 25.0  # of memory for each cloud of an opened file, docs/data_loading.md


def hours(clouds: int, epochs: tuple[float, float], rates: tuple[float, float]) -> float:
    """GPU hours of SA3DF and its teacher."""
    return sum(clouds * e / rate for e, rate in zip(epochs, rates, strict=True)) / 3600


def tables(price: float) -> str:
    """Hours and money, then disk and memory, in Markdown."""
    least = SETS["ShapeNet55"]
    lines = [
        "| clouds | step | one epoch, h | 400 epochs and teacher, GPU h | USD "
        "| as many samples as ShapeNet55, GPU h | that is epochs | USD |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, clouds in SETS.items():
        for way, rates in RATES.items():
            whole = hours(clouds, EPOCHS, rates)
            share = least / clouds
            same = hours(clouds, (EPOCHS[0] * share, EPOCHS[1] * share), rates)
            lines.append(
                f"| {name} | {way} | {clouds / rates[0] / 3600:.3g} | {whole:,.4g} "
                f"| {whole * price:,.0f} | {same:.3g} | {EPOCHS[0] * share:.3g} "
                f"| {same * price:.2f} |"
            )
    lines += [
        "",
        "| clouds | processed, GB | while it is prepared, GB | index in memory, GB "
        "| prepared from .npy, h | from text, h | MB/s that a recorded step reads |",
        "|---|---|---|---|---|---|---|",
    ]
    binary, text = PREPARED.values()
    for name, clouds in SETS.items():
        stored = clouds * POINTS * POINT_BYTES / 1e9
        read = RATES["recorded"][0] * POINTS * POINT_BYTES / 1e6
        lines.append(
            f"| {name} | {stored:,.3g} | {SPOOL * stored:,.3g} | {clouds * INDEX_BYTES / 1e9:.2g} "
            f"| {clouds / binary / 3600:.2g} | {clouds / text / 3600:.2g} | {read:.0f} |"
        )
    return "\n".join(lines)
