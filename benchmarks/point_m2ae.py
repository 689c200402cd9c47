"""One pre-training step of Point-M2AE against its plain form, which loops over the clouds.

    python benchmarks/point_m2ae.py --batch 8 --rounds 5

A step is grouping, masking, forward and backward at published sizes (2048 points, 512/256/64
patches, 51 masked); both forms have the same weights, clouds and masks, and their losses must
agree. Rounds alternate, the ratio is the median over the rounds of (plain / ours).
`grouping given` hands the plain form our patches, so that its loop over farthest points does not
count. Memory is the peak beyond what a process holds before its first step, each form in a process
of its own. CPU only: the plain form is written for it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# This folder holds a file that shares its name with the package point_ops.
HERE = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != HERE]
sys.path.append(str(HERE.parent))

import torch  # noqa: E402

from benchmarks.plain_m2ae import PlainM2AE  # noqa: E402
from sa3d import models  # noqa: E402
from sa3d.config.loading import load_experiment  # noqa: E402
from sa3d.engine import tune  # noqa: E402
from sa3d.masking import Mask  # noqa: E402
from sa3d.masking.base import largest  # noqa: E402
from sa3d.models.point_m2ae.backbone import PointM2AE  # noqa: E402

Step = Callable[[], torch.Tensor]
MASKED = 51


class Given(PlainM2AE):
    """The plain form with grouping done for it."""

    def groups(self, points: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        """Our own patches."""
        return [(s.centers, s.index, s.patches) for s in self.model.group(points).scales]


def steps(batch: int) -> dict[str, Step]:
    """Each contender's step; it returns the loss."""
    config = load_experiment("point-m2ae", HERE.parent / "params.yaml")
    torch.manual_seed(0)
    model = models.build_backbone(config.model)
    assert isinstance(model, PointM2AE)
    assert config.pretrain is not None
    model.train()
    points = torch.randn(batch, config.pretrain.data.points, 3)
    points = points / points.norm(dim=2, keepdim=True) * torch.tensor([1.0, 0.6, 0.3])
    flags = largest(torch.rand(batch, config.model.num_tokens), MASKED)

    def ours() -> torch.Tensor:
        groups, mask = model.group(points), Mask.of(flags, MASKED)
        decoded = model.decode(model.encode(groups, mask), groups, mask)
        return model.point_loss(decoded, groups, mask).loss

    plain, given = PlainM2AE(model), Given(model)
    forward: dict[str, Step] = {
        "ours": ours,
        "plain, grouping given": lambda: given.loss(points, flags),
        "plain": lambda: plain.loss(points, flags),
    }

    def whole(loss: Step) -> Step:
        def step() -> torch.Tensor:
            torch.manual_seed(1)  # the same blocks dropped
            value = loss()
            value.backward()
            model.zero_grad(set_to_none=True)
            return value.detach()

        return step

    return {name: whole(loss) for name, loss in forward.items()}


def peak(name: str, batch: int) -> None:
    """Print the MiB that two steps of ``name`` add to what this process holds."""
    step = steps(batch)[name]
    # ru_maxrss would be inherited from the parent; this peak can be reset
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    step()
    step()
    print((memory("VmHWM") - before) // 1024)


def memory(line: str) -> int:
    """KiB of this process, by the name of a line in its status."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0])


def main() -> None:
    """Compare losses, then time, then memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tuned = tune.configure_cpu().describe()
    if args.peak_of:
        peak(args.peak_of, args.batch)
        return
    load = os.getloadavg()[0]
    print(f"# CPU, torch {torch.__version__}, {args.threads} threads, {tuned}")
    print(f"# batch {args.batch}, {args.rounds} rounds, load at the start {load:.1f}")
    contenders = steps(args.batch)
    losses = {name: float(step()) for name, step in contenders.items()}
    torch.testing.assert_close(
        torch.tensor([*losses.values()]),
        torch.full((len(losses),), losses["ours"]),
        rtol=1e-4,
        atol=1e-6,
    )
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, step in contenders.items():
            began = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - began)
    command = [sys.executable, __file__, "--batch", str(args.batch), "--threads", str(args.threads)]
    print("| form | loss | s a step | samples/s | time / ours | peak, MiB | peak / ours |")
    print("|---|---|---|---|---|---|---|")
    own = 0
    for name, seconds in times.items():
        done = subprocess.run(
            [*command, "--peak-of", name], capture_output=True, text=True, check=True
        )
        mebibytes = int(done.stdout.split()[-1])
        assert mebibytes > 0, "a step must need memory"
        own = own or mebibytes
        ratio = statistics.median(s / o for s, o in zip(seconds, times["ours"], strict=True))
        median = statistics.median(seconds)
        print(
            f"| {name} | {losses[name]:.6f} | {median:.2f} | {args.batch / median:.2f} | "
            f"{ratio:.2f}x | {mebibytes} | {mebibytes / own:.2f}x |"
        )


if __name__ == "__main__":
    main()
