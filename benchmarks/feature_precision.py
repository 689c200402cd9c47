"""Whether frozen features in bf16 cost accuracy: linear SVMs on both, on the same folds.

    python benchmarks/feature_precision.py data/processed/shapes.h5 data/processed/kicad.h5

The encoder that comes with the package reads every cloud in fp32 and in bf16. For several seeds,
folds that keep a family of shapes together are drawn; an SVM with each C is trained and tested on
them with features of both precisions. Printed are mean accuracies over all seeds and folds, the
mean difference, and its standard error over the seeds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from sklearn.model_selection import StratifiedGroupKFold  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

from sa3d.checkpoints.load import load_encoder  # noqa: E402
from sa3d.data.loader import Batches  # noqa: E402
from sa3d.data.store import open_clouds  # noqa: E402
from sa3d.engine import tune  # noqa: E402
from sa3d.engine.precision import autocast  # noqa: E402

BOXED = HERE.parent / "sa3d" / "inference" / "boxed"


def extracted(path: Path, most: int, points: int) -> tuple[dict[str, NDArray[np.float32]], ...]:
    """Features by precision, labels, families and seconds."""
    backbone, _ = load_encoder(BOXED)
    clouds = open_clouds(path)
    rows = np.linspace(0, len(clouds.labels) - 1, min(most, len(clouds.labels))).astype(np.int64)
    batches = Batches(
        clouds,
        rows,
        batch_size=64,
        points=points,
        seed=0,
        shuffle=False,
        drop_last=False,
        sampling="fps",
    )
    seconds = dict.fromkeys(("fp32", "bf16"), 0.0)
    found: dict[str, list[NDArray[np.float32]]] = {precision: [] for precision in seconds}
    for batch in batches.epoch(0):
        for precision, parts in found.items():
            began = time.perf_counter()
            with autocast(torch.device("cpu"), precision):  # type: ignore[arg-type]
                parts.append(backbone.features(batch.points).numpy())
            seconds[precision] += time.perf_counter() - began
    features = {precision: np.concatenate(parts) for precision, parts in found.items()}
    return features, clouds.labels[rows], clouds.family[rows], seconds  # type: ignore[return-value]


def main() -> None:
    """Print a row for every data set and C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="processed data sets")
    parser.add_argument("--most", type=int, default=1000, help="clouds of each")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args()
    tune.configure_cpu()
    print("| data | clouds | C | fp32 | bf16 | bf16 - fp32 | standard error | same answer |")
    print("|---|---|---|---|---|---|---|---|")
    for path in args.files:
        features, labels, families, seconds = extracted(path, args.most, args.points)
        for c in (0.01, 0.1, 1.0):
            scores: dict[str, list[list[float]]] = {precision: [] for precision in features}
            same = []
            for seed in range(args.seeds):
                splitter = StratifiedGroupKFold(args.folds, shuffle=True, random_state=seed)
                folds = list(splitter.split(labels, labels, families))
                for own in scores.values():
                    own.append([])
                for train, test in folds:
                    answers = []
                    for precision, values in features.items():
                        svm = make_pipeline(StandardScaler(), SVC(kernel="linear", C=c))
                        answers.append(svm.fit(values[train], labels[train]).predict(values[test]))
                        scores[precision][-1].append(float((answers[-1] == labels[test]).mean()))
                    same.append(float((answers[0] == answers[1]).mean()))
            means = {precision: np.mean(own, axis=1) for precision, own in scores.items()}
            gap = means["bf16"] - means["fp32"]
            error = gap.std(ddof=1) / np.sqrt(len(gap))
            print(
                f"| {path.stem} | {len(labels)} | {c:g} | {means['fp32'].mean():.4f} | "
                f"{means['bf16'].mean():.4f} | {gap.mean():+.4f} | {error:.4f} | "
                f"{np.mean(same):.4f} |",
                flush=True,
            )
        close = np.linalg.norm(features["bf16"] - features["fp32"], axis=1)
        close /= np.linalg.norm(features["fp32"], axis=1)
        print(
            f"\n{path.stem}: features differ by {close.mean():.2%} in the mean, largest "
            f"{close.max():.2%}; seconds {seconds}\n"
        )


if __name__ == "__main__":
    main()
