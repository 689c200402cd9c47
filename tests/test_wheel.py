"""The wheel of ``sa3d``: what it says that it needs, and that this is enough.

The slow test installs the wheels in an empty virtual environment that sees, of everything else,
only the distributions which the wheel's own metadata asks for, by links into the installed ones.
That needs no index and no second copy of torch; what pip makes of the metadata on an index was
tried by hand (docs/registry.md).
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    packages_distributions,
)
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sa3d.checkpoints.card import model_digest
from sa3d.checkpoints.export import export_model
from sa3d.cli.extras import EXTRAS as EXTRA_OF
from sa3d.config.loading import load_experiment
from sa3d.inference.locating import BOXED
from sa3d.inference.serving import FeatureModel
from sa3d.methods.build import build_method
from sa3d.runs.config import choose

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {
    extra: [Requirement(text) for text in texts]
    for extra, texts in PROJECT["optional-dependencies"].items()
}
SMALL = [
    *("model.groups=8", "model.group_size=8", "model.dim=24", "model.depth=1", "model.heads=2"),
    "pretrain.data.points=64",
]
# comes with another package that is named: scikit-learn and typing helpers of pydantic
WITH_OTHERS = {"pydantic-core": "pydantic"}
# done without where it is missing: looked for by `sa3d doctor`; the load of NVIDIA's GPUs
LOOKED_FOR = {"point-ops-compat", "nvidia-ml-py"}


owners = cache(packages_distributions)  # reads the list of files of all that is installed


@cache
def third_party(folder: str) -> list[tuple[str, str]]:
    """Every distribution that a package's source imports, and the file that does."""
    known, imported = owners(), []
    for file in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for top in {name.partition(".")[0] for name in names}:
                if top not in sys.stdlib_module_names and top not in ("sa3d", "flows"):
                    found = sorted({canonicalize_name(each) for each in known.get(top, [top])})
                    name = found[0] if len(found) == 1 else top
                    imported.append((name, str(file.relative_to(ROOT))))
    return imported


def test_whatever_is_imported_is_asked_for() -> None:
    every = [*CORE, *(each for extra in EXTRAS.values() for each in extra)]
    asked = {canonicalize_name(each.name) for each in every}
    aliases = {"ruamel": "ruamel-yaml"}  # a namespace that several distributions share
    missing = [
        f"{name} ({file})"
        for folder in ("sa3d", "flows")
        for name, file in third_party(folder)
        if WITH_OTHERS.get(name, aliases.get(name, name)) not in asked | LOOKED_FOR
    ]
    assert missing == []


def test_a_command_that_lacks_a_package_names_the_extra_that_brings_it() -> None:
    known = owners()
    core = {canonicalize_name(each.name) for each in CORE}
    imported = {module for module, _ in third_party("sa3d")} - core - LOOKED_FOR
    brought = set()
    for module, extra in EXTRA_OF.items():
        asked = {canonicalize_name(each.name) for each in EXTRAS[extra]}
        found = {canonicalize_name(each) for each in known[module]} & asked
        assert found, f"sa3d[{extra}] does not bring {module}"
        brought |= found
    assert imported - set(WITH_OTHERS) - {"ruamel"} <= brought


def test_what_is_tested_fits_what_is_asked_for() -> None:
    pinned: dict[str, str] = {}
    for file in ("requirements.txt", "constraints.txt"):
        for line in (ROOT / file).read_text().splitlines():
            found = re.match(r"([A-Za-z0-9._-]+)==([^\s#]+)", line)
            if found:
                pinned[canonicalize_name(found[1])] = found[2]
    asked = [*CORE, *(each for extra, few in EXTRAS.items() if extra != "s3" for each in few)]
    for each in asked:
        if canonicalize_name(each.name) in ("sa3d", "point-ops"):
            continue
        version = pinned[canonicalize_name(each.name)]
        assert each.specifier.contains(version), f"{each} does not admit the tested {version}"


def closure(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """The installed distributions that requirements ask for, directly or through others."""
    found: dict[str, Distribution] = {}
    waiting = [(each, extra) for each in requirements for extra in ("", *each.extras)]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise AssertionError(f"{requirement} is not installed") from None
        for text in found[name].requires or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed, each) for each in ("", *needed.extras)]
    return found


def link(distributions: Iterable[Distribution], folder: Path) -> None:
    """Put the top-level files and folders of distributions into a folder, as links."""
    folder.mkdir()
    for each in distributions:
        for file in each.files or []:
            top = file.parts[0]
            if top in ("..", "__pycache__") or (folder / top).exists():
                continue
            (folder / top).symlink_to(Path(str(each.locate_file(top))))


def run(*words: str, env: dict[str, str] | None = None) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SA3D"))}
    done = subprocess.run(
        list(words), cwd="/", env=clean | (env or {}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


LOADER = """
import sys
import numpy as np, sa3d, point_ops
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
print(sa3d.__file__)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both wheels; that of point_ops without its C++ kernels, which take a minute to compile."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps")
    run(*pip, "-w", str(folder), str(ROOT), str(ROOT / "extensions"), env={"POINT_OPS_BUILD": "0"})
    return sorted(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_serves_a_model_in_an_empty_environment(
    wheels: list[Path], tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps")
    run(*pip, *map(str, wheels))
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    core = [each for each in CORE if each.name != "point-ops"]
    link(closure(core).values(), tmp_path / "core")
    (site / "core.pth").write_text(f"{tmp_path / 'core'}\n")

    config = load_experiment("demo", ROOT / "params.yaml", SMALL)
    trained = choose(config, "pretrain", variant="random-masks")
    torch.manual_seed(0)
    method = build_method(trained.method, trained.model)
    card = {
        "kind": "pretrain",
        "model": trained.model.model_dump(mode="json"),
        "preprocessing": {"points": 64, "normalisation": "subsample"},
    }
    export_model(tmp_path / "model", method.student_state(), card)
    clouds = np.random.default_rng(0).normal(size=(2, 80, 3)).astype(np.float32)
    wanted = FeatureModel(tmp_path / "model").predict(clouds)
    for row, cloud in enumerate(clouds):
        np.save(tmp_path / f"{row}.npy", cloud)
    (tmp_path / "a.off").write_text("OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n")

    sa3d = str(tmp_path / "venv" / "bin" / "sa3d")
    out = tmp_path / "features.npy"
    files = [str(tmp_path / f"{row}.npy") for row in range(len(clouds))]
    said = run(sa3d, "embed", str(tmp_path / "model"), *files, "--out", str(out))
    ids = out.with_suffix(".ids.txt")
    assert said == f"{out} and {ids}: 2 rows of {wanted.shape[1]} features\n"
    np.testing.assert_allclose(np.load(out), wanted, rtol=1e-4, atol=1e-5)
    # the encoder in the box is in the wheel, whole
    said = run(python, "-c", "import sa3d; print(sa3d.load_encoder().card['sha256'])")
    assert said.strip() == model_digest(BOXED)
    mesh = subprocess.run(
        [sa3d, "embed", str(tmp_path / "a.off")], cwd="/", env={}, capture_output=True, text=True
    )
    told = r"needs (trimesh|mapbox_earcut), which is not installed: pip install 'sa3d\[data\]'\n$"
    assert mesh.returncode == 2
    assert re.search(told, mesh.stderr), mesh.stderr
    lacking = subprocess.run(
        [sa3d, "promote", "a"], cwd="/", env={}, capture_output=True, text=True, check=False
    )
    assert lacking.returncode == 2, "it sees more than it asks for"
    told = "sa3d: this needs mlflow, which is not installed: pip install 'sa3d[mlflow]'\n"
    assert lacking.stderr == told

    import mlflow.pyfunc

    mlflow.pyfunc.save_model(
        str(tmp_path / "pyfunc"),
        loader_module="sa3d.inference.serving",
        data_path=str(tmp_path / "model"),
        pip_requirements=["sa3d[mlflow]"],
    )
    np.save(tmp_path / "clouds.npy", clouds)
    link(closure([*core, *EXTRAS["mlflow"]]).values(), tmp_path / "more")
    (site / "core.pth").write_text(f"{tmp_path / 'more'}\n")
    words = [str(tmp_path / name) for name in ("pyfunc", "clouds.npy", "served.npy")]
    said = run(python, "-c", LOADER, *words, env={"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"})
    assert Path(said.strip().splitlines()[-1]).is_relative_to(site)
    np.testing.assert_allclose(np.load(tmp_path / "served.npy"), wanted, rtol=1e-4, atol=1e-5)
