"""An experiment that segments the tiny data set, and a segmenter whose answers are known."""

from __future__ import annotations

from pathlib import Path

from task_runs import run_of
from torch import Tensor, nn

from sa3d.config.experiment import ExperimentConfig
from sa3d.config.loading import load_experiment
from sa3d.runs.config import RunConfig

# the tiny experiment with a model that can be segmented with: three blocks, of which all are read
PARAMS = """\
experiments:
  parts:
    seeds: [1]
    model: {groups: 8, group_size: 8, dim: 16, depth: 3, heads: 2, decoder_depth: 1, embed_width: 8}
    pretrain:
      {data: {name: tiny, points: 64, val_fraction: 0.2}, mask_ratio: 0.6, epochs: 1,
       batch_size: 32, lr: 1.0e-3}
    variants:
      random-masks: {method: mae, mask: random}
      scratch: {scratch: true}
    evaluate:
      - task: segment
        settings: {epochs: 2, batch_size: 16, lr: 2.0e-3, clip: 10.0}
"""
PLAIN = next(line for line in PARAMS.splitlines(keepends=True) if "model:" in line)
SCALES = """\
    model: {backbone: point-m2ae, groups: [24, 12, 8], group_sizes: [8, 4, 3], dims: [8, 12, 16],
            depths: [1, 1, 1], heads: 2, embed_width: 8}
"""


def experiment(tiny: Path, folder: Path, model: str = PLAIN) -> ExperimentConfig:
    """The experiment; ``model`` takes the place of that line."""
    datasets = (tiny / "params.yaml").read_text().split("experiments:")[0]
    (folder / "params.yaml").write_text(datasets + PARAMS.replace(PLAIN, model))
    return load_experiment("parts", folder / "params.yaml")


def scratch(config: ExperimentConfig, **settings: object) -> RunConfig:
    return run_of(config, "segment", "scratch", **settings)


class Fixed(nn.Module):
    """Logits that do not depend on the clouds."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        return self.logits[: len(points)]
