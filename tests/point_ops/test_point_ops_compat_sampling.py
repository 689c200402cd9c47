"""The drop-in's farthest points against the original's rule, acted out step by step.

The original starts the running distances at 1e10. In every step each of its threads walks through
every T-th point, passes over those with x^2 + y^2 + z^2 <= 1e-3, and keeps the first of the largest
running distances it meets, beginning with distance -1 and index 0. Pairs of threads are then
compared, half a block apart, a quarter, and so on; the lower thread of a pair wins a tie.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("point_ops_compat", reason="the drop-in names are not installed")
from pointnet2_ops.pointnet2_utils import FurthestPointSampling, furthest_point_sample


def acted_out(cloud: list[list[float]], count: int, threads: int) -> list[int]:
    """Indices that the original picks from one cloud, in float32 as it computes."""
    points = torch.tensor(cloud, dtype=torch.float32)
    x, y, z = points.unbind(-1)
    inside = (x * x + y * y + z * z).double() <= 1e-3
    running = torch.full((len(points),), 1e10)
    picked = [0]
    while len(picked) < count:
        dx, dy, dz = (points - points[picked[-1]]).unbind(-1)
        distance = dx * dx + dy * dy + dz * dz
        running = torch.where(inside, running, torch.minimum(distance, running))
        best, index = [-1.0] * threads, [0] * threads
        for k in range(len(points)):
            if not inside[k] and running[k] > best[k % threads]:
                best[k % threads], index[k % threads] = float(running[k]), k
        half = threads // 2
        while half:
            for low in range(half):
                if best[low + half] > best[low]:
                    best[low], index[low] = best[low + half], index[low + half]
            half //= 2
        picked.append(index[0])
    return picked


def threads_of(n: int) -> int:
    """How many threads the original starts: the largest power of two up to n, at most 512."""
    return min(1 << (n.bit_length() - 1), 512)


def sampled(cloud: list[list[float]], count: int) -> list[int]:
    return furthest_point_sample(torch.tensor([cloud]), count)[0].tolist()


ORIGIN, INSIDE = [0.0, 0, 0], [0.02, 0.02, 0]


@pytest.mark.parametrize(
    ("cloud", "count", "wanted"),
    [
        # index 1 is inside; the start is too and does not come back: index 2, the first outside
        ([ORIGIN, INSIDE, [1.0, 0, 0], [0, 0.5, 0]], 6, [0, 2, 3, 2, 2, 2]),
        ([ORIGIN, [0, 0.5, 0], [1.0, 0, 0]], 5, [0, 2, 1, 1, 1]),
        # the start is outside: it is the first
        ([[1.0, 0, 0], INSIDE, [0, 0.5, 0]], 4, [0, 2, 0, 0]),
        # nothing outside: index 0
        ([INSIDE, ORIGIN, [0.01, 0, 0]], 3, [0, 0, 0]),
        ([ORIGIN], 2, [0, 0]),
        # points that lie on points already picked, with more samples than points
        ([INSIDE, [1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]], 6, [0, 1, 3, 1, 1, 1]),
        # the start inside counts in the distances: index 2 is farther from it
        ([INSIDE, [0.5, 0, 0], [-0.6, 0, 0]], 2, [0, 2]),
    ],
)
def test_small_clouds(cloud, count, wanted):
    assert sampled(cloud, count) == wanted
    assert acted_out(cloud, count, threads=1) == wanted


def test_the_bound_is_that_of_double_precision():
    """Squares just above and at most 1e-3; the float32 nearest to 1e-3 is above it."""
    edge = torch.tensor(1e-3, dtype=torch.float32)
    assert edge.double() > 1e-3
    outside = edge.sqrt()
    while outside * outside < edge:
        outside = torch.nextafter(outside, torch.tensor(1.0))
    inside = torch.nextafter(outside, torch.tensor(0.0))
    while (inside * inside).double() > 1e-3:
        inside = torch.nextafter(inside, torch.tensor(0.0))
    for x, wanted in ((float(outside), [0, 1]), (float(inside), [0, 0])):
        cloud = [ORIGIN, [x, 0.0, 0.0]]
        assert sampled(cloud, 2) == wanted == acted_out(cloud, 2, threads=1)


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 100), st.integers(0, 2**32 - 1), st.booleans())
def test_random_clouds(n, count, seed, start_inside):
    """A third of the points inside the ball; samples may outnumber what is outside and all points.

    One thread is the rule without the order in which pairs are compared: equal, repeats and all.
    With as many threads as the original starts, distances that differ give the same picks, and
    afterwards some index outside is repeated: which one hangs on the number of threads.
    """
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 3, generator=draw)
    shrunk = torch.rand(n, generator=draw) < 0.33
    shrunk[0] = start_inside
    points[shrunk] *= 0.005
    cloud = points.tolist()
    idx = sampled(cloud, count)
    assert idx == acted_out(cloud, count, threads=1)
    original = acted_out(cloud, count, threads_of(n))
    outside = [k for k in range(n) if float(points[k].square().sum()) > 1e-3]
    distinct = len({0, *outside})
    assert idx[:distinct] == original[:distinct]
    repeats = {0} if not outside else set(outside)
    assert set(idx[distinct:]) <= {min(repeats)}
    assert set(original[distinct:]) <= repeats


def test_batches_dtypes_and_no_gradient():
    points = torch.randn(3, 40, 3, requires_grad=True)
    idx = FurthestPointSampling.apply(points, 9)
    assert idx.dtype == torch.int32
    assert not idx.requires_grad
    assert idx.tolist() == [acted_out(cloud, 9, 1) for cloud in points.tolist()]
    assert furthest_point_sample(points.double(), 9).tolist() == idx.tolist()
    assert (
        furthest_point_sample(points.transpose(1, 2).contiguous().transpose(1, 2), npoint=9)
        .eq(idx)
        .all()
    )


@pytest.mark.parametrize("bad", [torch.zeros(4, 3), torch.zeros(1, 0, 3), torch.zeros(1, 4, 2)])
def test_wrong_shapes_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        furthest_point_sample(bad, 2)
    with pytest.raises(ValueError, match="n_samples"):
        furthest_point_sample(torch.rand(1, 4, 3), 0)
