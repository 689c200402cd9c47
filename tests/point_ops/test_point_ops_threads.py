"""Work is handed out in small pieces to whichever thread is free: results must not show it."""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import point_ops
import pytest
import torch

CPP = "cpp" in point_ops.backends("cpu").values()
pytestmark = pytest.mark.skipif(not CPP, reason="no C++ kernels here: threads are torch's own")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def results(seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(7, 600, 3, generator=generator)
    centers = point_ops.gather(points, point_ops.farthest_point_sample(points, 45))
    distance, index = point_ops.knn(centers, points, 17)
    both = point_ops.chamfer(points, centers)
    features = torch.rand(7, 45, 40, generator=generator, requires_grad=True)
    carried = point_ops.interpolate(points, centers, features)
    (gradient,) = torch.autograd.grad(carried.square().sum(), features)
    largest = point_ops.group_max(point_ops.group(points, index).flatten(0, 1))
    ball = point_ops.ball_query(centers, points, 0.2, 9)
    rows = torch.rand(7, 45, 48, generator=generator, requires_grad=True)
    mixed = point_ops.attention(rows, 2)
    (slope,) = torch.autograd.grad(mixed.square().sum(), rows)
    found = [centers, distance, index, *both, carried.detach(), gradient, largest, ball]
    return [*found, mixed.detach(), slope]


def same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


def test_any_number_of_threads_gives_the_same_bits(threads):
    threads(1)
    wanted = results()
    for count in (2, 3, 8, 2):
        threads(count)
        for _ in range(20):
            same(results(), wanted)


def test_callers_at_the_same_time_do_not_meet(threads):
    threads(1)
    wanted = [results(seed) for seed in range(4)]

    def again(seed):
        torch.set_num_threads(3)
        for _ in range(20):
            same(results(seed), wanted[seed])
        return seed

    with ThreadPoolExecutor(4) as callers:
        assert list(callers.map(again, range(4))) == [0, 1, 2, 3]


def test_an_error_in_a_piece_leaves_the_threads_usable(threads):
    threads(2)
    points = torch.rand(4, 3000, 3)
    index = torch.zeros(4, 3000, dtype=torch.long)
    index[3, -1] = 3000
    for _ in range(3):
        with pytest.raises(ValueError, match=r"idx: expected values in 0..2999"):
            point_ops.gather(points, index)
        assert torch.equal(point_ops.gather(points, index.clamp(max=7))[:, 0], points[:, 0])


FORKED = """
import os, sys, torch, point_ops
torch.set_num_threads(2)
points = torch.rand(8, 500, 3, generator=torch.Generator().manual_seed(0))
wanted = point_ops.farthest_point_sample(points, 50)
for _ in range(5):
    child = os.fork()
    if not child:
        found = point_ops.farthest_point_sample(points, 50)  # torch's own threads would hang here
        os._exit(0 if torch.equal(found, wanted) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(point_ops.farthest_point_sample(points, 50), wanted)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_gets_threads_of_its_own():
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_two_callers_that_wait_at_once_both_return(tmp_path):
    here = Path(__file__).resolve().parent
    program, kernels = tmp_path / "callers", here.parents[1] / "extensions" / "csrc"
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    source = [str(here / "share_callers.cpp"), "-o", str(program)]
    flags = ["-std=c++17", "-O1", "-pthread", f"-I{kernels}"]
    subprocess.run([*compiler, *flags, *source], check=True)
    assert subprocess.run([program], timeout=60, check=False).returncode == 0
