"""Samples a second of one training step at full width, on the CPU or a GPU.

    python benchmarks/train_step.py --batch 16 --steps 5 --threads 2

For plain Point-MAE and SA3DF, in fp32 and bf16; on the CPU, fp32 both with torch's default
matrix products and through oneDNN. A step is grouping, all forward passes, backward, clipping,
AdamW and the EMA update, at the end of the curriculum (the EMA teacher runs). Configurations
alternate, the median is printed. Clouds and weights are random.
"""

import argparse
import gc
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

# This folder holds a file that shares its name with the package point_ops.
HERE = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != HERE]
sys.path.append(str(HERE.parent))

import torch  # noqa: E402

from sa3d import models  # noqa: E402
from sa3d.config.loading import load_experiment  # noqa: E402
from sa3d.engine import tune  # noqa: E402
from sa3d.engine.precision import autocast  # noqa: E402
from sa3d.engine.types import Progress  # noqa: E402
from sa3d.methods.build import build_method  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--steps", type=int, default=5, help="timed steps of each configuration")
parser.add_argument("--threads", type=int, default=torch.get_num_threads())
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
args = parser.parse_args()

torch.set_num_threads(args.threads)
torch.manual_seed(0)
device = torch.device(args.device)
config = load_experiment("point-mae-sa3df", HERE.parent / "params.yaml")
points = torch.randn(args.batch, config.pretrain.data.points, 3, device=device)
batch = SimpleNamespace(points=points / points.norm(dim=-1).amax(1)[:, None, None])

route = False
if device.type == "cpu":
    tuning = tune.configure_cpu()
    route = tuning.onednn
    print(tuning.describe())
print(f"{device}, batch {args.batch}, {args.threads} threads, torch {torch.__version__}")

cases = [("fp32", False)] + ([("fp32", True)] if route else []) + [("bf16", False)]
for settings in config.methods.values():
    name = settings.method
    teacher = models.build_backbone(config.model) if settings.has_teacher else None
    method = build_method(settings, config.model, teacher).to(device).train()
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    generator = torch.Generator(device).manual_seed(0)
    progress = Progress(399, 400, 0, 1, generator)
    seconds = {case: [] for case in cases}
    for step in range(args.steps + 1):
        for precision, onednn in cases:
            if device.type == "cpu":
                tune.use_onednn(onednn)
            start = time.perf_counter()
            with autocast(device, precision):
                loss = method.training_step(batch, progress)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 5.0, foreach=True)
            optimiser.step()
            optimiser.zero_grad()
            method.after_step(progress)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if step:  # the first one warms up
                seconds[precision, onednn].append(time.perf_counter() - start)
    for (precision, onednn), times in seconds.items():
        middle = statistics.median(times)
        label = f"{precision}{' oneDNN' if onednn else ''}"
        print(f"{name:6} {label:12} {middle:7.3f} s/step {args.batch / middle:8.1f} samples/s")
    del method, teacher, optimiser, trained
    gc.collect()
