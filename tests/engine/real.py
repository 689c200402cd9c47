"""A program: two steps of each narrow real method, for ``torchrun``. Every process writes the
sha256 of its trained parameters into ``RUN_DIR/<variant>-<rank>``."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Generator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

from sa3d.engine.distributed import processes
from sa3d.engine.loop import Trainer
from sa3d.tracking.journal import NullTracker

BATCH, STEPS = 4, 2
VARIANTS: dict[str, dict[str, object]] = {
    "sa3df": {},
    "sa3df-own-head": {"point_term": "ground_truth_grad"},
    "sa3d": {"method": "sa3d"},
    "mae": {"method": "mae", "mask": "random"},
}
VARIANTS |= {f"{name}-scales": {**VARIANTS[name], "scales": True} for name in ("sa3df", "mae")}


class Clouds:
    """Other clouds in every process."""

    batch_size = BATCH

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __len__(self) -> int:
        return STEPS

    def epoch(self, e: int, start: int = 0) -> Generator[tiny.Clouds, None, None]:
        for number in range(start, STEPS):
            yield tiny.clouds(BATCH, seed=1 + number + STEPS * self.rank)


def main() -> None:
    torch.set_num_threads(1)
    with processes(torch.device("cpu")) as group:
        for name, changes in VARIANTS.items():
            changes = dict(changes)
            model = tiny.SCALES if changes.pop("scales", False) else tiny.PLAIN
            config = tiny.experiment(model | {"drop_path": 0.2}, **changes, epochs=1)
            method = tiny.build(config)
            Trainer(
                method,
                Clouds(group.rank),
                config.methods[tiny.OURS],
                seed=7,
                device=torch.device("cpu"),
                prepare=lambda batch, progress: batch,
                tracker=NullTracker(),
                checkpoint=None,
                processes=group,
            ).fit()
            whole = hashlib.sha256()
            for parameter in method.parameters():
                if parameter.requires_grad:
                    whole.update(parameter.detach().numpy().tobytes())
            Path(sys.argv[1], f"{name}-{group.rank}").write_text(whole.hexdigest())
        with processes(torch.device("cpu")) as again:
            assert again == group
        assert group.any(group.rank == 1) == (True,), "an inner use must not leave the group"


if __name__ == "__main__":
    main()
