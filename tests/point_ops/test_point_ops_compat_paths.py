"""Where the drop-ins are found: `extensions.*` beside a repository's own folder of that name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("point_ops_compat", reason="the drop-in names are not installed")
import chamfer_dist
import emd
import point_ops
import point_ops_compat

HERE = Path(point_ops_compat.__file__).parent
ROOT = Path(__file__).parents[2]
WHERE = "import extensions.chamfer_dist as m; print(m.__file__)"


def run(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A fresh Python in a folder, which it searches first, as `python main.py` does there."""
    path = (cwd, HERE, Path(point_ops.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def answer(code: str, cwd: Path) -> str:
    done = run(code, cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_paths_of_the_field_hold_the_same_objects():
    import extensions.chamfer_dist
    import extensions.emd
    import extensions.emd.emd

    for name in chamfer_dist.__dict__:
        if name.startswith("Chamfer"):
            assert getattr(extensions.chamfer_dist, name) is getattr(chamfer_dist, name)
    for name in emd.__all__:
        assert getattr(extensions.emd, name) is getattr(emd, name)
    assert sys.modules["extensions.emd.emd"].earth_mover_distance is emd.earth_mover_distance


@pytest.mark.slow
def test_a_plain_import_reaches_the_submodules(tmp_path):
    code = (
        "import pointnet2_ops; print(pointnet2_ops.pointnet2_utils.furthest_point_sample.__name__)"
    )
    assert answer(code, tmp_path) == "furthest_point_sample"
    code = "import pointnet2_ops; print(pointnet2_ops.pointnet2_modules.PointnetSAModule.__name__)"
    assert answer(code, tmp_path) == "PointnetSAModule"


def test_ours_is_found_where_a_repository_has_no_such_folder(tmp_path):
    assert answer(WHERE, tmp_path) == str(HERE / "extensions" / "chamfer_dist" / "__init__.py")


def test_ours_stands_beside_a_repositorys_own_folder(tmp_path):
    """A folder with other extensions, of which the repository lost one: GM3D's case."""
    (tmp_path / "extensions" / "gridding").mkdir(parents=True)
    (tmp_path / "extensions" / "gridding" / "__init__.py").write_text("own = 7\n")
    code = "from extensions.gridding import own; " + WHERE + "; print(own)"
    found = answer(code, tmp_path).splitlines()
    assert found == [str(HERE / "extensions" / "chamfer_dist" / "__init__.py"), "7"]


@pytest.mark.slow
def test_a_repositorys_own_module_comes_first_and_is_served_by_ours(tmp_path):
    """Point-MAE's case: its wrapper stays, the compiled module below it is the drop-in."""
    own = tmp_path / "extensions" / "chamfer_dist" / "__init__.py"
    own.parent.mkdir(parents=True)
    own.write_text("import chamfer\nforward = chamfer.forward\n")
    code = WHERE + "; import chamfer; print(m.forward is chamfer.forward, chamfer.__file__)"
    assert answer(code, tmp_path).splitlines() == [str(own), f"True {HERE / 'chamfer.py'}"]
    code = "import extensions.emd as m; print(m.__file__)"
    assert answer(code, tmp_path) == str(HERE / "extensions" / "emd" / "__init__.py")


def test_a_folder_that_is_a_package_hides_ours_in_words_of_python(tmp_path):
    (tmp_path / "extensions").mkdir()
    (tmp_path / "extensions" / "__init__.py").touch()
    done = run(WHERE, tmp_path)
    assert done.returncode == 1
    assert "No module named 'extensions.chamfer_dist'" in done.stderr


@pytest.mark.slow
def test_from_this_projects_root_both_are_there():
    """Its folder `extensions/` is no package, so it neither hides the drop-ins nor is hidden."""
    assert not (ROOT / "extensions" / "__init__.py").exists()
    code = (
        WHERE + "; import extensions, point_ops; print(len(list(extensions.__path__)));"
        "import extensions.compat; print(list(extensions.compat.__path__)[0])"
    )
    file, portions, compat = answer(code, ROOT).splitlines()
    assert file == str(HERE / "extensions" / "chamfer_dist" / "__init__.py")
    assert int(portions) >= 2
    assert compat == str(ROOT / "extensions" / "compat")


def test_nothing_of_ours_makes_the_namespace_a_package():
    assert not (HERE / "extensions" / "__init__.py").exists()


@pytest.mark.slow
def test_an_installed_copy_has_every_module(tmp_path):
    source = tmp_path / "compat"
    ignored = {"build", "__pycache__"}
    for file in (ROOT / "extensions" / "compat").rglob("*"):
        part = file.relative_to(ROOT / "extensions" / "compat")
        if file.is_file() and not ignored & set(part.parts) and "egg-info" not in str(part):
            (source / part).parent.mkdir(parents=True, exist_ok=True)
            (source / part).write_bytes(file.read_bytes())
    words = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, *words, "--target", str(tmp_path / "site"), str(source)], check=True
    )
    modules = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    modules = {name for name in modules if not name.startswith("build/")}
    installed = {
        str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.py")
    }
    assert installed == modules
