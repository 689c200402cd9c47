"""Tiny fixtures: a generated data set, an experiment of seconds, stores in a temporary folder."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

# On a busy machine a deadline would fail sound code.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

PARAMS = """\
datasets:
  tiny: {source: shapes, seed: 0, shapes_per_class: 8, points: 128, test_fraction: 0.25}
experiments:
  tiny:
    seeds: [1]
    model: {groups: 8, group_size: 8, dim: 16, depth: 2, heads: 2, decoder_depth: 1, embed_width: 8}
    pretrain:
      {data: {name: tiny, points: 64, val_fraction: 0.2}, mask_ratio: 0.6, epochs: 3,
       batch_size: 32, lr: 1.0e-3, warmup_epochs: 1, clip: 5.0}
    variants:
      sa3df: {method: sa3df, teacher: random-masks, mask: gc, gc_depth: 1, switch_epoch: 1}
      random-masks: {method: mae, mask: random}
      scratch: {scratch: true}
    evaluate:
      - {task: svm, settings: {folds: 2}}
      - task: classify
        settings: {epochs: 2, batch_size: 16, lr: 1.0e-3, clip: 10.0, layer_decay: 0.75}
      - task: fewshot
        label: 3w2s
        settings: {way: 3, shot: 2, queries: 2, folds: 2, epochs: 3, batch_size: 6, lr: 1.0e-3}
"""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What imports and collection make stays until the end: a third of their time went into looking
    for garbage among it, and every test would look again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``params.yaml`` and the processed data set ``tiny``; not to be written to."""
    from sa3d.config.loading import load_source
    from sa3d.data.prepare import prepare

    root = tmp_path_factory.mktemp("tiny")
    (root / "params.yaml").write_text(PARAMS)
    source = load_source("tiny", root / "params.yaml")
    prepare("tiny", source, root / "data" / "processed" / "tiny.h5", quiet=True)
    return root


@pytest.fixture
def tiny(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``tiny_root`` as the current project, with work folder and MLflow store of the test's own."""
    monkeypatch.chdir(tiny_root)
    for name in ("DVC_ROOT", "SA3D_TAGS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SA3D_ROOT", str(tiny_root))
    monkeypatch.setenv("SA3D_WORK", str(tmp_path / "work"))
    return tiny_root


@pytest.fixture
def tiny_config(tiny: Path) -> Any:
    """The tiny experiment's settings."""
    from sa3d.config.loading import load_experiment

    return load_experiment("tiny", tiny / "params.yaml")


@pytest.fixture
def one_thread() -> None:
    """One CPU thread, so that sums have one order; see ``leave_the_process_as_it_was``."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def leave_the_process_as_it_was() -> Iterator[None]:
    """Undo what a test sets for the whole process: a run in this process tunes the CPU, after which
    the runs of other tests would have other bits."""
    from sa3d.engine import tune

    threads, onednn = torch.get_num_threads(), tune.onednn_in_use()
    yield
    torch.set_num_threads(threads)
    tune.use_onednn(onednn)
