"""``sa3d index`` and ``sa3d search``: what is said, in what form, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trimesh
from PIL import Image
from typer.testing import CliRunner

from sa3d.cli.main import app

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "parts" / "rods").mkdir(parents=True)
    for at in range(3):
        trimesh.creation.box((1, 1.2, 1 + 0.1 * at)).export(folder / "parts" / f"box{at}.stl")
        rod = trimesh.creation.cylinder(0.1 + 0.06 * at, 3)
        rod.export(folder / "parts" / "rods" / f"rod{at}.off")
    shutil.copy(folder / "parts" / "box0.stl", folder / "parts" / "copy.stl")
    trimesh.creation.box((1, 1.2, 1.05)).export(folder / "query.ply")
    assert CliRunner().invoke(app, ["index", str(folder / "parts")]).exit_code == 0
    return folder


@pytest.fixture
def call(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command in a folder with ``parts`` and ``query.ply``: (exit code, stdout, stderr)."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")

    def call(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, list(words))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return call


def test_a_folder_and_a_query_are_enough(call: Call) -> None:
    Path("parts/.sa3d-index.npz").unlink()
    code, said, told = call("search", "parts", "query.ply")
    assert code == 0
    assert told == "parts/.sa3d-index.npz: 7 shapes (7 new)\n\n"
    lines = said.splitlines()
    assert lines[0] == "query.ply looks like"
    assert lines[2] == "rank  similarity  file"
    assert [line.split()[0] for line in lines[3:]] == ["1", "2", "3", "4", "5"]
    assert {line.split()[2] for line in lines[3:7]} == {
        "parts/box0.stl", "parts/box1.stl", "parts/box2.stl", "parts/copy.stl",
    }  # fmt: skip
    assert call("search", "parts", "query.ply", "-q") == (0, said, "")


def test_index_says_what_changed(call: Call) -> None:
    assert call("index", "parts")[1] == "parts/.sa3d-index.npz: 7 shapes (nothing has changed)\n"
    Path("parts/box2.stl").unlink()
    Path("parts/bad.ply").write_text("not a ply")
    shutil.copy("query.ply", "parts/new.ply")
    code, said, told = call("index", "parts")
    assert code == 1
    assert said == "parts/.sa3d-index.npz: 7 shapes (1 new, 1 gone, 1 could not be read)\n"
    assert told == "sa3d: parts/bad.ply: not a whole .ply file: its header does not end\n"
    code, said, _ = call("index", "parts", "query.ply", "--out", "all.npz", "--up", "z")
    assert (code, said) == (1, "all.npz: 8 shapes (8 new, 1 could not be read)\n")


def test_json(call: Call) -> None:
    code, said, told = call("search", "parts", "parts/rods/rod1.off", "query.ply", "--json",
                            "--top", "2")  # fmt: skip
    assert (code, told) == (0, "")
    first, second = json.loads(said)
    assert first["query"] == "parts/rods/rod1.off"
    assert [near["rank"] for near in first["nearest"]] == [1, 2]
    assert {Path(near["path"]).name for near in first["nearest"]} == {"rod0.off", "rod2.off"}
    assert all(Path(near["path"]).is_absolute() for near in second["nearest"])
    groups = json.loads(call("search", "parts", "--duplicates", "--json")[1])
    assert [[Path(path).name for path in group] for group in groups] == [["box0.stl", "copy.stl"]]


def test_duplicates_in_words(call: Call) -> None:
    code, said, _ = call("search", "parts/.sa3d-index.npz", "--duplicates")
    assert code == 0
    assert said == (
        "2 of 7 shapes have near-duplicates, in 1 group (size does not count)\n\n"
        "group 1: 2 shapes\n  parts/box0.stl\n  parts/copy.stl\n"
    )
    Path("parts/copy.stl").unlink()
    assert call("search", "parts", "--duplicates", "-q")[1] == "no near-duplicates among 6 shapes\n"


@pytest.mark.slow
def test_sheets(call: Call) -> None:
    code, said, _ = call("search", "parts", "query.ply", "--sheet", "a.png", "--top", "3")
    assert code == 0
    assert said.endswith("\n\na.png\n")
    with Image.open("a.png") as image:
        assert image.width > image.height > 200
        assert len(image.convert("L").resize((64, 16)).getcolors()) > 20, "not a blank"
    assert call("search", "parts", "--duplicates", "--sheet", "b.svg")[0] == 0
    text = Path("b.svg").read_text()
    assert "copy.stl" in text
    assert "box1.stl" not in text
    shutil.copy("parts/box0.stl", "parts/<b>.stl")
    assert call("search", "parts", "query.ply", "--sheet", "c.html", "-q")[0] == 0
    page = Path("c.html").read_text()
    assert "&lt;b&gt;.stl" in page, "a name is no markup"
    assert "<b>.stl" not in page
    assert r"\u003cb\u003e.stl" not in page
    assert page.count("<script") == page.count("</script>")
    assert "<script src" not in page


def test_a_picture_of_files_that_are_gone(call: Call) -> None:
    shutil.rmtree("parts/rods")
    code, _, _ = call(
        "search", "parts/.sa3d-index.npz", "query.ply", "--top", "6", "--sheet", "a.png"
    )
    assert code == 0
    assert Path("a.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("search", "parts"), "give a QUERY, a file to look for, or --duplicates"),
        (("search", "parts", "query.ply", "--duplicates"), "give a QUERY"),
        (("search", "none.npz", "query.ply"), "no folder and no index none.npz; give a folder of"),
        (("index", "nowhere"), "no folder nowhere; give one with shapes in it"),
        (("search", "query.ply", "query.ply"), "query.ply is no index of shapes"),
        (("search", "parts", "gone.stl"), "gone.stl: cannot be opened"),
        (("search", "parts", "query.ply", "--sheet", "a.gif"), "ends in .png, .svg, .html"),
        (("search", "parts", "query.ply", "--sheet", "none/query.ply/a.png"), "cannot write"),
        (("index", "parts", "query.ply"), "say --out INDEX.npz"),
        (("index", "parts", "--model", "gone"), "no exported model in"),
        (("index", "empty"), "holds no file of a known format"),
        (("search", "empty", "query.ply"), "; no index was written"),
    ],
)
def test_what_is_refused(call: Call, words: tuple[str, ...], said: str) -> None:
    Path("empty").mkdir()
    Path("none").mkdir()
    Path("none/query.ply").touch()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    code, out, told = call(*words)
    assert (code, out) == (2, "")
    assert said in told
    assert told.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_bad_query_does_not_end_the_rest(call: Call) -> None:
    code, said, told = call("search", "parts", "gone.stl", "query.ply", "--json")
    assert code == 1
    assert [answer["query"] for answer in json.loads(said)] == ["query.ply"]
    assert told == "sa3d: gone.stl: cannot be opened (No such file or directory)\n"


def test_a_query_of_the_index_loads_no_torch(call: Call) -> None:
    code = (
        "import sys; from sa3d.inference.index import open_index\n"
        "found = open_index('parts/.sa3d-index.npz').nearest('parts/box0.stl')\n"
        "print(found[0].path.name, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "copy.stl False\n"
