"""Tests pass in any order and with any number of threads: what one of them sets for the whole
process ends with it."""

from __future__ import annotations

import pytest
import torch

from sa3d.engine import tune

THREADS = torch.get_num_threads()  # as pytest imports this file, before any test runs
ONEDNN = tune.onednn_in_use()


@pytest.mark.parametrize("turn", range(2))
def test_what_a_test_sets_for_the_process_ends_with_it(turn: int) -> None:
    assert (torch.get_num_threads(), tune.onednn_in_use()) == (THREADS, ONEDNN)
    torch.set_num_threads(THREADS + 1)  # what the other turn must not find
    tune.use_onednn(not ONEDNN)


@pytest.mark.parametrize("turn", range(2))
def test_one_thread_ends_too(turn: int, request: pytest.FixtureRequest) -> None:
    assert torch.get_num_threads() == THREADS
    request.getfixturevalue("one_thread")
    assert torch.get_num_threads() == 1
