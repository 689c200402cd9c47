"""Is the nearest cloud of the same kind? Retrieval on the test clouds of a data set.

    python benchmarks/retrieval.py --data kicad --out retrieval.json \
        boxed=sa3d/inference/boxed random-masks=work/pretrain-procedural-random-masks-s0-…

Every test cloud is a query once, and all others are ranked by cosine similarity. Three questions:

- family: are clouds of the query's family (near-identical parts) first?
- class: are clouds of its class first?
- class, other families: the same when its own family is left out of the ranking.

The number is the mean average precision over the queries that have a relevant cloud, with the 95 %
interval over families. Beside the models that are named: the shape descriptors of the data set's
floor, and an untrained encoder of the first model's architecture. Features and descriptors are used
as they are, and standardised by mean and deviation of the training clouds.

`--exact RUN`: how far the first model's features are from those of this one, whose encoder it is in
another precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import numpy as np
import torch

from sa3d.checkpoints.load import model_of
from sa3d.data.descriptors import descriptors
from sa3d.data.preprocessing import Preprocessing
from sa3d.data.store import TEST, TRAIN, CloudSet, open_clouds
from sa3d.inference.encoder import Encoder
from sa3d.metrics.intervals import estimate
from sa3d.metrics.retrieval import average_precision
from sa3d.models import build_backbone
from sa3d.utils.json_file import write_json
from sa3d.utils.paths import processed


def questions(clouds: CloudSet, rows: np.ndarray) -> dict[str, tuple[Any, Any]]:
    """Groups, and what is kept apart, of each question."""
    family, label = clouds.family[rows], clouds.labels[rows]
    return {
        "family": (family, None),
        "class": (label, None),
        "class, other families": (label, family),
    }


def measured(features: np.ndarray, clouds: CloudSet, rows: np.ndarray) -> dict[str, Any]:
    """Mean average precision of each question, with its interval over families."""
    found = {}
    for question, (groups, apart) in questions(clouds, rows).items():
        values = average_precision(features, groups, apart)
        asked = np.isfinite(values)
        if not asked.any():  # a data set without families has no answer to the first question
            continue
        result = estimate(values[asked][None], clouds.family[rows][asked])
        interval = result.interval
        found[question] = {
            "queries": int(asked.sum()),
            "families": len(np.unique(clouds.family[rows][asked])),
            "map": float(result.mean),
            "low": None if interval is None else float(interval.low),
            "high": None if interval is None else float(interval.high),
        }
    return found


def untrained(encoder: Encoder, seed: int) -> Encoder:
    """The same architecture with random weights."""
    torch.manual_seed(seed)
    found = object.__new__(Encoder)
    found.card, found.preprocessing = encoder.card, encoder.preprocessing
    found._backbone = build_backbone(model_of(encoder.card, Path("card"))).eval()
    return found


def described(clouds: list[np.ndarray], way: Preprocessing) -> np.ndarray:
    """Descriptors of what a model sees of the clouds."""
    return np.concatenate([descriptors(way.batch([cloud]).numpy()) for cloud in clouds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--data", default="kicad")
    parser.add_argument("--exact", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of random weights")
    parser.add_argument("--train", type=int, default=1000, help="training clouds to standardise by")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()

    clouds = open_clouds(processed(given.data))
    rows = clouds.indices(TEST)
    train = np.random.default_rng(0).permutation(clouds.indices(TRAIN))[: given.train]
    both = [[clouds.cloud(row) for row in part] for part in (rows, train)]
    encoders = {
        name: Encoder(Path(folder)) for name, folder in (each.split("=") for each in given.models)
    }
    first = next(iter(encoders.values()))
    encoders["random weights"] = untrained(first, given.seed)
    pairs = {name: [each.embed(part) for part in both] for name, each in encoders.items()}
    pairs["descriptors"] = [described(part, first.preprocessing) for part in both]

    results: dict[str, Any] = {}
    for name, (test, fitted) in pairs.items():
        spread = fitted.std(axis=0)
        standardised = (test - fitted.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        results[name] = {
            "as they are": measured(test, clouds, rows),
            "standardised": measured(standardised, clouds, rows),
        }
        print(name, *(f"{v['map']:.3f}" for way in results[name].values() for v in way.values()))
    tree: dict[str, Any] = {
        "task": "retrieval",
        "data": {"name": given.data, "digest": clouds.digest, "test": len(rows)},
        "protocol": "leave one out among the test clouds, cosine similarity, mean average "
        "precision, 95 % interval over families",
        "results": results,
    }
    if given.exact is not None:
        exact = Encoder(given.exact).embed(both[0])
        half = pairs[next(iter(encoders))][0]
        cosine = (
            (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
        )
        tree["rounding"] = {
            "smallest_cosine": float(cosine.min()),
            "largest_difference": float(np.abs(exact - half).max()),
            "largest_feature": float(np.abs(exact).max()),
        }
        print(tree["rounding"])
    write_json(given.out, tree)


if __name__ == "__main__":
    main()
