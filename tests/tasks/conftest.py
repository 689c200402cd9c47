"""Two pre-trained models, made once for all tests of tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders of the tiny pre-training with random masks and of SA3DF, which distils it; not
    to be written to."""
    from task_runs import context, do, run_of

    from sa3d.config.loading import load_experiment

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # so that sums have one order
    config = load_experiment("tiny", tiny_root / "params.yaml")
    work = tmp_path_factory.mktemp("work")
    folders = {name: work / name for name in config.methods}
    for name, folder in folders.items():
        teacher = config.teacher_of(name)
        where = context(tiny_root, folder, teacher=teacher and folders[teacher])
        do(run_of(config, "pretrain", name), where)
    torch.set_num_threads(before)
    return folders
