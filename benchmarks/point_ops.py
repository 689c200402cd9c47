"""Times point_ops against its peers in one run: interleaved rounds, medians, ratios.

    python benchmarks/point_ops.py                  # CPU; peers are fetched into a scratch folder
    python benchmarks/point_ops.py --device cuda    # against plain torch on the GPU
    python benchmarks/point_ops.py --fallback       # the pure-torch half against its naive forms
    python benchmarks/point_ops.py --check          # what has a floor alone; fails below one

In every round each contender of a case runs once; the ratio is the median over the rounds of
(contender / ours), so that a busy machine slows both. Peers that do not install are left out and
named. Results are compared first: a peer that computes something else is marked. Floors stand in
``benchmarks/floors.py``.
"""

# ruff: noqa: B023, E731 (the lambdas of a loop are called within its turn)

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import numpy as np
import point_ops as po
import torch

from benchmarks import floors, peers
from benchmarks.attention import bench_attention
from benchmarks.patches import bench_patches

Contender = Callable[[], Any]


def surface(batch: int, n: int, seed: int = 0) -> torch.Tensor:
    """(B, N, 3) points on an ellipsoid: the field's clouds are surfaces."""
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(batch, n, 3, generator=draw)
    return points / points.norm(dim=-1, keepdim=True) * torch.tensor([1.0, 0.6, 0.3])


class Bench:
    """Runs cases and prints rows of a markdown table; ``only`` what has a floor, if so asked."""

    def __init__(
        self, device: str, rounds: int, clock: Callable[[], float], *, only: bool = False
    ) -> None:
        self.device, self.rounds, self.clock, self.only = device, rounds, clock, only
        self.held, self.check = floors.here().operators, floors.Check()
        print(
            "| case | ours, ms | contender | ms | ratio | same result |\n|---|---|---|---|---|---|"
        )

    def sync(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def once(self, run: Contender, times: int) -> float:
        self.sync()
        start = self.clock()
        for _ in range(times):
            run()
        self.sync()
        return (self.clock() - start) / times * 1e3

    def load(self, name: str) -> Any | None:
        """A package to compare with; None: not there, or not asked for."""
        return None if self.only and name not in floors.PACKAGES else peers.load(name)

    def case(
        self,
        name: str,
        ours: Contender,
        others: dict[str, Contender | None],
        same: Callable[[Any, Any], str],
    ) -> None:
        """Interleave the contenders of one case and print a row for each."""
        if self.only:
            others = {peer: others[peer] for peer in floors.OPERATORS.get(name, ())}
        for peer in self.held.get(name, {}):
            if others.get(peer) is None:  # it does not install here
                self.check.wrong.append(f"{name}: {peer} is not there to compare with")
        runs = {"ours": ours} | {peer: run for peer, run in others.items() if run is not None}
        results = {peer: run() for peer, run in runs.items()}
        spans = {peer: self.once(run, 1) for peer, run in runs.items()}
        times = {peer: max(1, min(20, int(10 / max(span, 1e-3)))) for peer, span in spans.items()}
        taken: dict[str, list[float]] = {peer: [] for peer in runs}
        slow = sum(spans[p] * times[p] for p in runs) > 4000
        for _ in range(max(3, self.rounds // 3) if slow else self.rounds):
            for peer, run in runs.items():
                taken[peer].append(self.once(run, times[peer]))
        mine = statistics.median(taken["ours"])
        for peer in runs:
            if peer == "ours":
                continue
            pairs = zip(taken[peer], taken["ours"], strict=True)
            ratio = statistics.median(p / o for p, o in pairs)
            verdict = same(results["ours"], results[peer])
            other = statistics.median(taken[peer])
            row = f"| {name} | {mine:.3g} | {peer} | {other:.3g} | {ratio:.1f}x | {verdict} |"
            print(row, flush=True)
            what = f"{name}, times as fast as {peer}"
            self.check.least(what, ratio, self.held.get(name, {}).get(peer))


def same_sequence(ours: torch.Tensor, other: Any) -> str:
    other = torch.as_tensor(np.asarray(other)).cpu().long().view(ours.shape)
    share = (ours.cpu() == other).all(-1).float().mean().item()
    return "yes" if share == 1 else f"{share:.0%} of the clouds"


def same_sets(ours: torch.Tensor, other: Any) -> str:
    other = torch.as_tensor(np.asarray(other)).cpu().long().view(ours.shape)
    share = (ours.cpu().sort(-1).values == other.sort(-1).values).all(-1).float().mean().item()
    return "yes" if share == 1 else f"{share:.4%} of the rows"


def close(ours: Any, other: Any) -> str:
    worst = max((o.cpu() - t.cpu()).abs().max().item() for o, t in zip(ours, other, strict=True))
    return f"to {worst:.0e}"


def fps_loop(points: torch.Tensor, count: int) -> torch.Tensor:
    """The loop most repositories carry."""
    batch, n, _ = points.shape
    picked = torch.zeros(batch, count, dtype=torch.long, device=points.device)
    nearest = torch.full((batch, n), 1e10, device=points.device)
    last = torch.zeros(batch, dtype=torch.long, device=points.device)
    rows = torch.arange(batch, device=points.device)
    for step in range(count):
        picked[:, step] = last
        center = points[rows, last].view(batch, 1, 3)
        nearest = torch.minimum(nearest, ((points - center) ** 2).sum(-1))
        last = nearest.argmax(-1)
    return picked


def bench_fps(bench: Bench, shapes: list[tuple[int, int, int]]) -> None:
    quick, plain, sample = map(bench.load, ("torch_quickfps", "torch_fps", "fpsample"))
    for batch, n, count in shapes:
        x = surface(batch, n)
        start, mask = torch.zeros(batch, dtype=torch.long), torch.ones(batch, n, dtype=torch.bool)
        clouds = [c.numpy() for c in x]
        others: dict[str, Contender | None] = {
            "torch_quickfps": quick and (lambda: quick.sample_idx(x, count, start_idx=0)),
            "torch_quickfps baseline": quick
            and (lambda: quick.sample_idx_baseline(x, count, start_idx=0)),
            "torch_fps": plain
            and (lambda: plain.farthest_point_sampling(x, mask, count, start_idx=start)),
            "torch loop": lambda: fps_loop(x, count),
            "fpsample": sample
            and (lambda: np.stack([sample.fps_sampling(c, count, start_idx=0) for c in clouds])),
        }
        ours = lambda: po.farthest_point_sample(x, count)
        bench.case(f"FPS {batch} x {n} -> {count}", ours, others, same_sequence)


def bench_knn(bench: Bench) -> None:
    from scipy.spatial import cKDTree

    faiss = bench.load("faiss")
    for m, n, k in ((64, 1024, 32), (512, 2048, 16)):
        x = surface(32, n)
        q = po.gather(x, po.farthest_point_sample(x, m))
        xs, qs = [c.numpy() for c in x], [c.numpy() for c in q]
        pairs = list(zip(qs, xs, strict=True))
        others: dict[str, Contender | None] = {
            "torch cdist + topk": lambda: torch.cdist(q, x).topk(k, largest=False).indices,
            "scipy cKDTree": lambda: np.stack(
                [cKDTree(c).query(o, k, workers=torch.get_num_threads())[1] for o, c in pairs]
            ),
            "faiss": faiss and (lambda: np.stack([faiss.knn(o, c, k)[1] for o, c in pairs])),
        }
        bench.case(f"kNN 32 x ({m} of {n}), k={k}", lambda: po.knn(q, x, k)[1], others, same_sets)


def bench_ball(bench: Bench) -> None:
    from scipy.spatial import cKDTree

    x = surface(32, 2048)
    q = po.gather(x, po.farthest_point_sample(x, 512))
    xs, qs = [c.numpy() for c in x], [c.numpy() for c in q]

    def sorting() -> torch.Tensor:
        idx = torch.arange(2048).repeat(32, 512, 1)
        square = (q.square().sum(-1)[..., None] + x.square().sum(-1)[:, None]) - 2 * q @ x.mT
        idx[square > 0.04] = 2048
        idx = idx.sort(-1).values[..., :32]
        return torch.where(idx == 2048, idx[..., :1], idx)

    def tree() -> torch.Tensor:
        out = torch.empty(32, 512, 32, dtype=torch.long)
        for b, (o, c) in enumerate(zip(qs, xs, strict=True)):
            found = cKDTree(c).query_ball_point(o, 0.2, return_sorted=True)
            for row, idx in enumerate(found):
                first = torch.tensor(idx[:32])
                out[b, row] = first[0]
                out[b, row, : len(first)] = first
        return out

    others: dict[str, Contender | None] = {"torch mask + sort": sorting, "scipy cKDTree": tree}
    ours = lambda: po.ball_query(q, x, 0.2, 32)
    bench.case("ball query 32 x (512 of 2048), k=32, r=0.2", ours, others, same_sets)


def bench_interpolate(bench: Bench) -> None:
    for m, n, c in ((2048, 512, 384), (512, 256, 192)):
        q, x = surface(32, m, 1), surface(32, n)
        f = torch.rand(32, n, c, generator=torch.Generator().manual_seed(0)).requires_grad_()
        flow = torch.ones(32, m, c)

        def train(out: torch.Tensor, f: torch.Tensor = f, flow: torch.Tensor = flow) -> Any:
            return out.detach(), torch.autograd.grad(out, f, flow)[0]

        def by_topk(q: Any = q, x: Any = x, f: Any = f) -> Any:
            value, idx = torch.cdist(q, x).topk(3, largest=False)
            weight = 1 / (value.square() + 1e-8)
            weight = weight / weight.sum(-1, keepdim=True)
            rows = torch.arange(len(f))[:, None, None]
            return train((f[rows, idx] * weight[..., None]).sum(2))

        others: dict[str, Contender | None] = {"torch cdist + topk": by_topk}
        ours = lambda: train(po.interpolate(q, x, f))
        name = f"3-NN interpolation, fwd + bwd, 32 x {m} from {n}, C={c}"
        bench.case(name, ours, others, close)


def chamfer_forms(a: torch.Tensor, b: torch.Tensor) -> dict[str, Contender]:
    """Plain-torch Chamfer, forward and backward, in the forms people write."""

    def train(one: torch.Tensor, two: torch.Tensor) -> Any:
        loss = one.mean() + two.mean()
        return loss.detach(), torch.autograd.grad(loss, a)[0]

    def square() -> Any:
        d = torch.cdist(a, b).square()
        return train(d.min(2).values, d.min(1).values)

    def baddbmm() -> Any:
        norms = a.square().sum(-1)[..., None] + b.square().sum(-1)[:, None]
        d = torch.baddbmm(norms, a, b.mT, alpha=-2)
        return train(d.min(2).values, d.min(1).values)

    def argmin() -> Any:
        with torch.no_grad():
            d = torch.cdist(a, b)
            ab, ba = d.argmin(2), d.argmin(1)
        rows = torch.arange(len(a), device=a.device)[:, None]
        return train((a - b[rows, ab]).square().sum(-1), (b - a[rows, ba]).square().sum(-1))

    return {"torch cdist squared": square, "torch baddbmm": baddbmm, "torch argmin": argmin}


def bench_chamfer(bench: Bench, device: str = "cpu") -> None:
    for batch, n in ((1216, 32), (16, 2048)):
        a = surface(batch, n).to(device).requires_grad_()
        b = surface(batch, n, 1).to(device)

        def ours(a: torch.Tensor = a, b: torch.Tensor = b) -> Any:
            loss = po.chamfer_l2(a, b)
            return loss.detach(), torch.autograd.grad(loss, a)[0]

        name = f"Chamfer L2, fwd + bwd, {batch} x {n} x {n}"
        bench.case(name, ours, dict(chamfer_forms(a, b)), close)


def bench_emd(bench: Bench) -> None:
    a, b = surface(4, 1024), surface(4, 1024, 1) * 0.8
    cost = lambda method: po.earth_movers_distance(a, b, method=method)
    worse = lambda ours, best: f"cost +{(ours / best - 1).max().item():.3%}"
    others: dict[str, Contender | None] = {"scipy linear_sum_assignment": lambda: cost("exact")}
    bench.case("EMD 4 x 1024", lambda: cost("auction"), others, worse)


def bench_fallback(bench: Bench) -> None:
    """The torch references, as they serve without a compiler, against the naive forms."""
    fps = importlib.import_module("point_ops.fps").reference
    for batch, n, count in ((32, 1024, 64), (32, 2048, 512)):
        x, start = surface(batch, n), torch.zeros(batch, dtype=torch.long)
        others: dict[str, Contender | None] = {"torch loop": lambda: fps_loop(x, count)}
        ours = lambda: fps(x, start, None, count)
        bench.case(f"torch FPS {batch} x {n} -> {count}", ours, others, same_sequence)
    interpolate = importlib.import_module("point_ops.interpolate").reference
    q, x = surface(32, 512, 1), surface(32, 256)
    f = torch.rand(32, 256, 192)

    def naive() -> Any:
        square = (q[:, :, None] - x[:, None]).square().sum(-1)
        value, idx = square.sort(-1)
        weight = 1 / (value[..., :3] + 1e-8)
        weight = weight / weight.sum(-1, keepdim=True)
        rows = torch.arange(32)[:, None, None]
        return [(f[rows, idx[..., :3]] * weight[..., None]).sum(2)]

    def ours() -> Any:
        value, idx = torch.topk(torch.cdist(q, x), 3, largest=False)
        weight = 1 / (value.square() + 1e-8)
        return [interpolate(f, idx, weight / weight.sum(-1, keepdim=True))]

    bench.case("torch interpolation 32 x 512 from 256", ours, {"torch sort": naive}, close)
    chamfer = importlib.import_module("point_ops.chamfer").reference
    for batch, n in ((1216, 32), (16, 1024)):
        a, b = surface(batch, n), surface(batch, n, 1)

        def broadcast(a: torch.Tensor = a, b: torch.Tensor = b) -> Any:
            square = (a[:, :, None] - b[:, None]).square().sum(-1)
            return square.min(2).values, square.min(1).values

        run = lambda: chamfer(a, b)[:2]
        name = f"torch Chamfer, forward, {batch} x {n} x {n}"
        bench.case(name, run, {"torch broadcast": broadcast}, close)


def bench_cuda(bench: Bench) -> None:
    """The Triton kernels against plain torch on the same GPU."""
    for batch, n, count in ((32, 1024, 64), (32, 2048, 512), (32, 8192, 1024)):
        x = surface(batch, n).cuda()
        others: dict[str, Contender | None] = {"torch loop": lambda: fps_loop(x, count).cpu()}
        ours = lambda: po.farthest_point_sample(x, count).cpu()
        bench.case(f"FPS {batch} x {n} -> {count}", ours, others, same_sequence)
    for m, n, k in ((64, 1024, 32), (512, 2048, 16)):
        x, q = surface(32, n).cuda(), surface(32, m, 1).cuda()
        topk = lambda: torch.cdist(q, x).topk(k, largest=False).indices.cpu()
        ours = lambda: po.knn(q, x, k)[1].cpu()
        bench.case(f"kNN 32 x ({m} of {n}), k={k}", ours, {"torch cdist + topk": topk}, same_sets)
    bench_chamfer(bench, "cuda")
    bench_patches(bench.case)


SHAPES = [(32, 1024, 64), (32, 2048, 512), (32, 8192, 1024), (1, 10000, 8192)]
CASES: dict[str, Callable[[Bench], None]] = {
    "fps": lambda bench: bench_fps(bench, SHAPES),
    "knn": bench_knn,
    "ball": bench_ball,
    "interpolate": bench_interpolate,
    "attention": lambda bench: bench_attention(bench.case, close),
    "chamfer": bench_chamfer,
    "emd": bench_emd,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--clock",
        choices=["wall", "processor"],
        default="wall",
        help="processor time of this process, with --threads 1, stands a busy machine",
    )
    parser.add_argument("--fallback", action="store_true", help="the pure-torch half instead")
    parser.add_argument("--only", nargs="*", choices=CASES, help="cases, e.g. fps chamfer")
    parser.add_argument("--check", action="store_true", help="fail below a floor")
    parser.add_argument("--peers", type=Path, help="folder to keep the peers in")
    options = parser.parse_args()
    if options.check and (options.fallback or options.device != "cpu"):
        parser.error("--check: floors are of the CPU's kernels")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    wanted = floors.PACKAGES if options.check else peers.PEERS
    with tempfile.TemporaryDirectory() as scratch:
        if options.device == "cpu" and not options.fallback:
            peers.install(options.peers or Path(scratch), wanted)
        name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
        served = sorted(set(po.backends(options.device).values()))
        print(
            f"# {name}, torch {torch.__version__}, threads {options.threads}, {options.clock} time,"
        )
        if options.check:
            print(floors.here().describe())
        print(f"# backends {served}, load at the start {os.getloadavg()[0]:.1f}")
        clock = time.process_time if options.clock == "processor" else time.perf_counter
        bench = Bench(options.device, options.rounds, clock, only=options.check)
        if options.fallback:
            bench_fallback(bench)
        elif options.device == "cuda":
            bench_cuda(bench)
        else:
            for case in options.only or CASES:
                CASES[case](bench)
        print(f"# load at the end {os.getloadavg()[0]:.1f}")
    if options.check:
        bench.check.end()


if __name__ == "__main__":
    main()
