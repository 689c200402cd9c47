"""Earth mover's distance between equal-sized clouds, and the matchings behind it.

Sources: Bertsekas, The auction algorithm (Annals of OR 14, 1988) for the fast one-to-one
matching; Fan et al., A Point Set Generation Network (CVPR 2017) for the soft matching.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from . import _checks, _native
from ._registry import register
from .gather import gather
from .knn import squared_distances

Method = Literal["auction", "exact", "soft"]


def _auction_one(cost: Tensor, eps: float) -> Tensor:
    """Row -> column of a matching within n * eps of the cheapest; all open rows bid at once."""
    n = cost.shape[0]
    if n == 1:
        return torch.zeros(1, dtype=torch.int64, device=cost.device)
    price = torch.zeros_like(cost[0])
    step = max(float(cost.max()) / 4, eps)
    while True:
        owner = torch.full((n,), -1, dtype=torch.int64, device=cost.device)
        column = owner.clone()
        while bool((column < 0).any()):
            open_rows = (column < 0).nonzero()[:, 0]
            margin, choice = torch.topk(-cost[open_rows] - price, 2, dim=1)
            bid = price[choice[:, 0]] + (margin[:, 0] - margin[:, 1]) + step
            best = torch.full_like(price, -torch.inf)
            best.scatter_reduce_(0, choice[:, 0], bid, "amax")
            won = bid >= best[choice[:, 0]]
            # A tie between equal bids goes to whichever write lands; read the winners back.
            winner = torch.full_like(owner, -1)
            winner[choice[won, 0]] = open_rows[won]
            sold = (winner >= 0).nonzero()[:, 0]
            displaced = owner[sold]
            column[displaced[displaced >= 0]] = -1
            owner[sold], price[sold] = winner[sold], best[sold]
            column[winner[sold]] = sold
        if step <= eps:
            return column
        step = max(step / 5, eps)


def reference(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """Torch form, cloud by cloud, in float64: a, b (B, N, 3) -> (B, N) int64."""
    out = torch.empty(a.shape[:2], dtype=torch.int64, device=a.device)
    for i in range(a.shape[0]):
        cost = squared_distances(a[i : i + 1].double(), b[i : i + 1].double())[0].sqrt_()
        if not bool(torch.isfinite(cost).all()):
            raise ValueError("a, b: expected finite coordinates")
        out[i] = _auction_one(cost, eps)
    return out


def _fake(a: Tensor, b: Tensor, eps: float) -> Tensor:
    return a.new_empty(a.shape[:2], dtype=torch.int64)


def _cuda(a: Tensor, b: Tensor, eps: float) -> Tensor:
    # Bids follow one another: the CPU is the faster device, and the clouds are small.
    out: Tensor = _op(a.cpu(), b.cpu(), eps)
    return out.to(a.device)


_op = register(
    "auction",
    "(Tensor a, Tensor b, float eps) -> Tensor",
    reference=reference,
    fake=_fake,
    cuda=_cuda,
    cuda_backend="torch" if _native.REASON else "cpp",
)


def _clouds(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = _checks.cloud("a", a, "B,N,3", last=3), _checks.cloud("b", b, "B,M,3", last=3)
    a, b = _checks.pair("a", a, "b", b)
    for name, value in (("a", a), ("b", b)):
        if value.shape[1] < 1:
            raise ValueError(f"{name}: expected at least one point, got {tuple(value.shape)}")
    return a, b


def assignment(
    a: Tensor, b: Tensor, *, method: Literal["auction", "exact"] = "auction", eps: float = 1e-3
) -> Tensor:
    """One-to-one matching of two clouds that makes the mean distance small.

    Args:
        a: (B, N, 3) floating, finite.
        b: (B, N, 3) floating, finite, same device.
        method: ``"auction"`` is within `eps` (mean distance a point) of the optimum;
            ``"exact"`` is the optimum, by scipy on the CPU, for small clouds.
        eps: accuracy of the auction, in units of the coordinates; the C++ kernel does not go
            below 1e-5 of the largest distance, where float32 ends.

    Returns:
        (B, N) int64: the point of b matched to each point of a; a permutation in every cloud.

    Raises:
        ValueError: a wrong shape, dtype, device or method, or coordinates that are not finite.
        ModuleNotFoundError: ``"exact"`` without scipy installed.
    """
    a, b = _clouds(a, b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"b: expected {a.shape[1]} points as in a, got {b.shape[1]}")
    if method == "auction":
        out: Tensor = _op(a.detach(), b.detach(), _checks.positive("eps", eps))
        return out
    if method == "exact":
        return _exact(a.detach(), b.detach())
    raise ValueError(f"method: expected 'auction' or 'exact', got {method!r}")


def _exact(a: Tensor, b: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    cost = squared_distances(a.double(), b.double()).sqrt_().cpu()
    if not bool(torch.isfinite(cost).all()):
        raise ValueError("a, b: expected finite coordinates")
    rows = [torch.from_numpy(linear_sum_assignment(one)[1]) for one in cost.numpy()]
    if not rows:
        return torch.empty(a.shape[:2], dtype=torch.int64, device=a.device)
    return torch.stack(rows).to(a.device, torch.int64)


def soft_match(a: Tensor, b: Tensor) -> Tensor:
    """Soft matching by annealing, as the `emd` extension of the field computes it.

    Args:
        a: (B, N, 3) floating.
        b: (B, M, 3) floating; of N and M the larger should be a multiple of the smaller.

    Returns:
        (B, M, N): how much of each point of a goes to each point of b; no gradient. Nothing
        goes to or from a point that is not finite.

    Raises:
        ValueError: a wrong shape, dtype or device.
    """
    a, b = _clouds(a, b)
    n, m = a.shape[1], b.shape[1]
    distance = squared_distances(b.detach(), a.detach())  # (B, M, N)
    left = distance.new_full((a.shape[0], 1, n), float(max(m // n, 1)))
    right = distance.new_full((a.shape[0], m, 1), float(max(n // m, 1)))
    match = torch.zeros_like(distance)
    apart = distance.isinf()
    for power in range(7, -3, -1):
        sharpness = -(4.0**power) if power > -2 else 0.0
        kernel = torch.exp(sharpness * distance).masked_fill(apart, 0)  # 0 * inf is not 0
        ratio_left = left / ((kernel * right).sum(1, keepdim=True) + 1e-9)
        wanted = right * (kernel * ratio_left).sum(2, keepdim=True)
        ratio_right = right * (right / (wanted + 1e-9)).clamp_max(1.0)
        right = (right - wanted).clamp_min(0.0)
        flow = kernel * ratio_left * ratio_right
        match += flow
        left = (left - flow.sum(1, keepdim=True)).clamp_min(0.0)
    return match


def match_cost(a: Tensor, b: Tensor, match: Tensor, *, squared: bool = False) -> Tensor:
    """Distance travelled under a soft matching.

    Args:
        a: (B, N, 3) floating.
        b: (B, M, 3) floating.
        match: (B, M, N), held constant.
        squared: sum squared distances, as the `emd_cuda` extension in wide use does.

    Returns:
        (B,) sum of matched amount times distance, differentiable in both clouds. It is infinite
        where something is matched with a point that is not finite, and that pair has no gradient.

    Raises:
        ValueError: a wrong shape, dtype or device.
    """
    a, b = _clouds(a, b)
    match = _checks.cloud("match", match, "B,M,N").detach()
    _checks.same_device("a", a, "match", match)
    if match.shape != (a.shape[0], b.shape[1], a.shape[1]):
        expected = (a.shape[0], b.shape[1], a.shape[1])
        raise ValueError(f"match: expected shape {expected}, got {tuple(match.shape)}")
    delta = b.unsqueeze(2) - a.unsqueeze(1)
    lost, unmatched = ~delta.isfinite().all(-1), match == 0
    delta = delta.masked_fill((lost | unmatched).unsqueeze(-1), 0)  # else 0 * NaN, which is not 0
    distance = delta.square().sum(-1)
    if not squared:
        distance = distance.clamp_min(1e-20).sqrt()
    return (distance * match).masked_fill(lost & ~unmatched, torch.inf).sum((1, 2))


def earth_movers_distance(
    a: Tensor, b: Tensor, *, method: Method = "auction", eps: float = 1e-3
) -> Tensor:
    """Mean distance between matched points, one value a cloud pair.

    Args:
        a: (B, N, 3) floating.
        b: (B, N, 3) floating, same device; ``"soft"`` also takes another number of points.
        method: ``"auction"`` and ``"exact"`` as :func:`assignment`; ``"soft"`` as
            :func:`soft_match`.
        eps: accuracy of the auction.

    Returns:
        (B,), differentiable in both clouds with the matching held constant.

    Raises:
        ValueError: a wrong shape, dtype, device or method.
    """
    if method == "soft":
        return match_cost(a, b, soft_match(a, b)) / max(a.shape[1], b.shape[1])
    if method not in ("auction", "exact"):
        raise ValueError(f"method: expected 'auction', 'exact' or 'soft', got {method!r}")
    idx = assignment(a, b, method=method, eps=eps)
    a, b = _clouds(a, b)
    delta = a - gather(b, idx)
    return delta.square().sum(-1).clamp_min(torch.finfo(a.dtype).tiny).sqrt().mean(-1)
