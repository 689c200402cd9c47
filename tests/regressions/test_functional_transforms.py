"""Transforms of torch.func: an operator answers rightly or refuses; it never drops a derivative."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import point_ops
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.functional import jacobian

DRAW = torch.Generator().manual_seed(0)
A = torch.rand(2, 9, 3, generator=DRAW, dtype=torch.float64)
B = torch.rand(2, 7, 3, generator=DRAW, dtype=torch.float64)
TANGENT = torch.rand(2, 9, 3, generator=DRAW, dtype=torch.float64)
IDX = torch.randint(0, 9, (2, 5, 4), generator=DRAW)
WEIGHT = torch.rand(2, 5, 4, generator=DRAW, dtype=torch.float64)
ONES = torch.ones(3, dtype=torch.float64)
FAR = A.flip(1) + 1

# Functions of one cloud (2, 9, 3) whose derivative goes through an operator of the library.
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "chamfer": lambda x: point_ops.chamfer(x, B).sqdist_ab,
    "chamfer other": lambda x: point_ops.chamfer(B, x).sqdist_ab,
    "chamfer_l1": lambda x: point_ops.chamfer_l1(x, B),
    "chamfer_l2": lambda x: point_ops.chamfer_l2(x, B, "patch"),
    "knn": lambda x: point_ops.knn(x, B, 3)[0],
    "knn points": lambda x: point_ops.knn(B, x, 3)[0],
    "gather": lambda x: point_ops.gather(x, IDX[..., 0]),
    "group": lambda x: point_ops.group(x, IDX),
    "three_interpolate": lambda x: point_ops.three_interpolate(x, IDX, WEIGHT),
    "three_interpolate weight": lambda x: point_ops.three_interpolate(A, IDX[:, :3, :3], x[:, :3]),
    "interpolate": lambda x: point_ops.interpolate(B, x, x),
    "earth mover's": lambda x: point_ops.earth_movers_distance(FAR, x),
    "batch_norm": lambda x: point_ops.batch_norm(x[0], ONES, ONES).out,
    "norm_relu": lambda x: point_ops.norm_relu(x[0], ONES, ONES, group=3, shared=x[1, :3]).out,
    "group_max": lambda x: point_ops.group_max(x.transpose(0, 1)),
}
# Made of torch's own operators where `x` enters, with matchings held constant.
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "match_cost": lambda x: point_ops.match_cost(x, B, point_ops.soft_match(A, B)),
    "earth mover's first": lambda x: point_ops.earth_movers_distance(x, FAR),
}
INDICES: dict[str, Callable[[Tensor], Tensor]] = {
    "farthest_point_sample": lambda x: point_ops.farthest_point_sample(x, 3),
    "ball_query": lambda x: point_ops.ball_query(x, B, 0.5, 3),
    "assignment": lambda x: point_ops.assignment(x, FAR),
}


@pytest.fixture(params=sorted(FUNCTIONS))
def function(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    return FUNCTIONS[request.param]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torch says of vmap that it calls our kernels one sample at a time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def test_forward_mode_is_refused_at_every_level(function: Callable[[Tensor], Tensor]) -> None:
    jvp, two, ways = torch.func.jvp, torch.stack([A, A]), torch.stack([TANGENT, TANGENT])

    def dual() -> None:
        with forward_ad.dual_level():
            function(forward_ad.make_dual(A, TANGENT))

    def outer() -> None:
        jvp(lambda y: jvp(lambda z: function(y).sum() + z.sum(), (A,), (TANGENT,))[1], (A,), (A,))

    for ask in (
        lambda: jvp(function, (A,), (TANGENT,)),
        lambda: jvp(torch.vmap(function), (two,), (ways,)),
        lambda: torch.vmap(lambda t: jvp(function, (A,), (t,))[1])(ways),
        lambda: torch.func.jacfwd(function)(A),
        lambda: jacobian(function, A, vectorize=True, strategy="forward-mode"),
        dual,
        outer,
    ):
        with pytest.raises(
            NotImplementedError, match=r"forward-mode derivatives .* not implemented"
        ):
            ask()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_tangent_that_arrives_in_backward_is_not_lost(name: str) -> None:
    """The backward pass is linear: a tangent that equals the gradient comes out as its equal."""
    x = A.clone().requires_grad_()
    out = FUNCTIONS[name](x)
    with forward_ad.dual_level():
        grad = forward_ad.make_dual(torch.ones_like(out), torch.ones_like(out))
        if name == "knn":  # the gradient of the queries is torch's own arithmetic
            found = forward_ad.unpack_dual(torch.autograd.grad(out, x, grad)[0])
            assert found.tangent is not None
            torch.testing.assert_close(found.tangent, found.primal)
            return
        with pytest.raises(NotImplementedError, match="forward-mode"):
            torch.autograd.grad(out, x, grad)


def test_an_exported_program_refuses_too() -> None:
    class Loss(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return point_ops.chamfer_l2(x, B)

    program = torch.export.export(Loss(), (A,)).module()
    with pytest.raises(NotImplementedError, match="forward-mode"):
        torch.func.jvp(program, (A,), (TANGENT,))


def test_what_the_tangent_does_not_reach_is_computed() -> None:
    value, tangent = torch.func.jvp(
        lambda y: y.sum() + point_ops.chamfer_l2(A, B), (A,), (TANGENT,)
    )
    torch.testing.assert_close(tangent, TANGENT.sum())
    torch.testing.assert_close(value, A.sum() + point_ops.chamfer_l2(A, B))


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_forward_mode_is_right_where_torch_itself_computes(name: str) -> None:
    f, step = PLAIN[name], 1e-6
    _, tangent = torch.func.jvp(f, (A,), (TANGENT,))
    expected = (f(A + step * TANGENT) - f(A - step * TANGENT)) / (2 * step)
    torch.testing.assert_close(tangent, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(torch.func.jacrev(f)(A), jacobian(f, A))


@pytest.mark.parametrize("name", sorted(FUNCTIONS | PLAIN | INDICES))
def test_vmap_gives_what_a_loop_gives(name: str) -> None:
    f = (FUNCTIONS | PLAIN | INDICES)[name]
    clouds = torch.stack([A, A + 0.1 * TANGENT, A.flip(1)])
    assert torch.equal(torch.vmap(f)(clouds), torch.stack([f(cloud) for cloud in clouds]))


def test_vmap_over_either_argument() -> None:
    clouds, others = torch.stack([A, A.flip(1)]), torch.stack([B, B.flip(0)])
    for dims in ((0, None), (None, 0), (0, 0)):
        one, two = (clouds if dims[0] == 0 else A), (others if dims[1] == 0 else B)
        found = torch.vmap(lambda x, y: point_ops.knn(x, y, 3), in_dims=dims)(one, two)
        for i in range(2):
            pair = (one[i] if dims[0] == 0 else one), (two[i] if dims[1] == 0 else two)
            for part, expected in zip(found, point_ops.knn(*pair, 3), strict=True):
                assert torch.equal(part[i], expected)


def test_jacobians_of_batched_gradients_are_right(function: Callable[[Tensor], Tensor]) -> None:
    torch.testing.assert_close(jacobian(function, A, vectorize=True), jacobian(function, A))


def test_reverse_mode_of_torch_func_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    for ask in (
        lambda: torch.func.grad(lambda x: function(x).sum())(A),
        lambda: torch.func.jacrev(function)(A),
        lambda: torch.func.hessian(lambda x: function(x).sum())(A),
    ):
        with pytest.raises(RuntimeError):
            ask()


def test_the_soft_matching_refuses_vmap() -> None:
    with pytest.raises(RuntimeError):
        torch.vmap(lambda x: point_ops.soft_match(x, B))(torch.stack([A, A]))
