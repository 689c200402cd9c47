"""Every block of commands or Python on the site, run: page by page, in order, in a small project.

What is not run stands in ``not_run.yaml``. The project is this checkout with the experiment
``demo`` made small; files that pages take for granted (``a.ply``, ``scans/``, ``~/parts``) are
put there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, RUN, Block, blocks, excuses

EXCUSES = excuses()
# the flows first: what they make is used by the others
ORDER = ("docs/flows.md", "docs/experiments.md", "docs/tracking.md", "docs/operations.md")
PARTS = (
    "docker",
    "examples",
    "extensions",
    "flows",
    "metrics",
    "sa3d",
    ".dvc/config",
    ".dvcignore",
)
DROPPED = (
    "DVC_ROOT",
    "SA3D_ROOT",
    "SA3D_WORK",
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_URL",
    "PREFECT_HOME",  # set by importing `flows`, which another test of this process may have done
)
SMALL_MODEL = {"groups": 8, "group_size": 8, "dim": 24, "depth": 3, "heads": 2, "decoder_depth": 1}
QUICK = {"epochs": 2, "warmup_epochs": 1}


def small(params: str) -> str:
    """``params.yaml`` with the experiment ``demo`` alone, of seconds."""
    tree = yaml.safe_load(params)
    demo, recipes = tree["experiments"]["demo"], tree["recipes"]
    demo["model"] |= SMALL_MODEL
    demo["pretrain"] |= QUICK | {"batch_size": 32}
    demo["pretrain"]["data"]["points"] = 64
    demo["variants"]["sa3df"] |= {"gc_depth": 1, "switch_epoch": 1}
    for number, each in enumerate(demo["evaluate"]):
        each.pop("seeds", None)
        if number:  # of all variants only the first
            own = "scratch" if each["recipe"] == "small-classify" else "random-masks"
            each["variants"] = [own]
        if each["recipe"] == "small-classify":
            each["settings"] = QUICK
        if each["recipe"] == "small-fewshot":
            each["settings"] = QUICK | {"shot": 2, "queries": 1, "batch_size": 4}
    for recipe in ("small-classify", "small-fewshot", "small-segment"):
        recipes[recipe]["settings"] |= QUICK
    for name, data in tree["datasets"].items():
        if name.startswith("shapes"):
            data |= {"shapes_per_class": 8, "points": 128}
    tree["datasets"] = {
        name: data for name, data in tree["datasets"].items() if name[:6] in ("shapes", "proced")
    }
    tree["experiments"] = {"demo": demo}
    tree["gate"]["tasks"]["svm"]["max_drop"] = None  # such small models differ by chance
    return yaml.safe_dump(tree, sort_keys=False)


class Project:
    """A checkout, and bash in it."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        scratch = root.with_name("tmp")
        scratch.mkdir()
        env = {key: value for key, value in os.environ.items() if key not in DROPPED}
        self.env = env | {
            "HOME": str(home),
            "TMPDIR": str(scratch),  # locks of cores of its own: tests run side by side
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
            "PYTHONPATH": str(root),
            "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "tmp" / "site"),
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def bash(self, text: str) -> None:
        """Run a block, each `…` filled in with the first name that fits; it ends at a failure."""
        text = re.sub(r"\S+…", lambda found: self.first(found[0]), text)
        self._run(["bash", "-e", "-o", "pipefail", "-c", text])

    def python(self, text: str) -> None:
        """Run a block of Python in a process of its own."""
        self._run([sys.executable, "-c", text])

    def first(self, name: str) -> str:
        """The first file that a name with `…` in it fits, from the project's root."""
        return str(min(self.root.glob(name.replace("…", "*"))).relative_to(self.root))

    def _run(self, words: list[str]) -> None:
        done = subprocess.run(
            words,
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words[-1]}\n{done.stdout[-6000:]}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("documented")
    root, home = folder / "project", folder / "home"
    home.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", "*.so")
    for part in PARTS:
        target = root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=unwanted)
        else:
            shutil.copy2(ROOT / part, target)
    shutil.copy2(ROOT / ".gitignore", root)
    (root / "params.yaml").write_text(small((ROOT / "params.yaml").read_text()))
    (root / ".venv").symlink_to(sys.prefix)
    made = Project(root, home)
    me = "git -c user.name=reader -c user.email=reader@localhost"
    made.bash(
        "python -m flows.dvc_pipeline\n"
        f"git init -q && git add -A . && {me} commit -q -m begin\n"
        "python examples/meshes.py scans --each 6 && python examples/meshes.py ~/parts --each 6\n"
        "cp -r scans parts && cp scans/car/car_02.ply a.ply && cp scans/car/car_00.stl b.stl\n"
        "cp scans/mug/mug_00.stl bracket.stl && mkdir new && cp bracket.stl new/a.stl\n"
        "cp a.ply b.ply\n"
        "dvc repro experiment@demo\n"
        "sa3d promote sa3d-demo-sa3df"
    )
    made.python(
        "import numpy as np, pathlib\n"
        "rng = np.random.default_rng(0)\n"
        "for name in ('a.npy', 'cloud.npy'): np.save(name, rng.random((500, 3)))\n"
        "rows = '\\n'.join(' '.join(map(str, row)) for row in rng.random((500, 3)))\n"
        "head = 'VERSION .7\\nFIELDS x y z\\nSIZE 4 4 4\\nTYPE F F F\\nCOUNT 1 1 1\\n'\n"
        "head += 'WIDTH 500\\nHEIGHT 1\\nVIEWPOINT 0 0 0 1 0 0 0\\nPOINTS 500\\nDATA ascii\\n'\n"
        "open('scans/car/scan.pcd', 'w').write(head + rows + '\\n')\n"
        "import trimesh\n"
        "for n in (1, 2, 3): trimesh.creation.box((1, 2, n)).export(f'box{n}.off')\n"
    )
    source = made.first("work/pretrain-shapes-random-masks-s0-…")
    made.bash(f"sa3d convert {source}/model --to official --out pretrain.pth")
    return made


def _rank(block: Block) -> tuple[int, str, int]:
    first = ORDER.index(block.page) if block.page in ORDER else len(ORDER)
    return first, block.page, block.line


RUNNABLE = sorted(
    (b for b in blocks() if b.language in RUN and not any(e.covers(b) for e in EXCUSES)), key=_rank
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", RUNNABLE, ids=str)
def test_a_block_does_what_it_says_without_an_error(block: Block, project: Project) -> None:
    if block.language == "python":
        project.python(block.text)
    elif block.language == "pycon":
        lines = [line[4:] for line in block.text.splitlines() if line[:4] in (">>> ", "... ")]
        project.python("\n".join(lines))
    elif block.language == "console":
        typed = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
        project.bash("\n".join(typed))
    else:
        project.bash(block.text)
