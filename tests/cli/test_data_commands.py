"""Commands on data sets: what they check, list, fetch and make."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py

from sa3d.config.obtain import how_to_make
from sa3d.utils.paths import give_params, processed
from tests.cli.conftest import Invoke


def test_data_check(invoke: Invoke, tmp_path: Path) -> None:
    code, out, _ = invoke("data", "check", "tiny")
    assert code == 0
    assert "of 128 points" in out
    away = processed("tiny").rename(tmp_path / "away.h5")
    try:
        assert invoke("data", "check")[0] == 0  # nobody asked for it
        code, out, _ = invoke("data", "check", "tiny")
    finally:
        away.rename(processed("tiny"))
    assert code == 2
    assert "processed   absent" in out
    code, _, err = invoke("data", "check", "tiny", "--set", "pints=64")
    assert code == 2
    assert "did you mean 'points'?" in err


def test_data_check_of_a_set_that_no_source_makes(invoke: Invoke) -> None:
    given = processed("given")
    code, out, _ = invoke("data", "check", "given")
    assert code == 2
    assert " ".join(out.split()) == (
        "given processed absent place data/processed/given.h5 note not there; params.yaml names no "
        "source that makes it (but of tiny): put a file of the processed layout there; see "
        "data/README.md"
    )
    shutil.copy(processed("tiny"), given)
    try:
        code, out, _ = invoke("data", "check", "given")
        assert code == 0
        assert "of 128 points" in out
        assert "raw" not in out
        code, out, _ = invoke("data", "list")
        assert re.search(r"^given +none +there .* no source makes it$", out, re.M)
        with h5py.File(given, "r+") as file:
            file["points"][0] += 1.0
        code, out, _ = invoke("data", "check", "given")
    finally:
        given.unlink()
    assert code == 2
    assert "has changed since it was written" in " ".join(out.split())
    assert "replace it by a whole file of the layout" in " ".join(out.split())
    code, _, err = invoke("data", "check", "given", "--set", "points=64")
    assert code == 2
    assert "no data set 'given'" in err


def test_data_check_as_json(invoke: Invoke) -> None:
    code, out, _ = invoke("data", "check", "tiny", "--json")
    assert code == 0
    tree = json.loads(out)
    assert tree["fine"] is True
    [found] = tree["sets"]
    assert set(found) == {"name", "title", "fine", "raw", "processed", "obtain"}
    assert found["raw"]["state"] == "generated"
    keys = {"path", "state", "facts", "problems", "notes"}
    assert set(found["processed"]) == keys
    assert set(found["raw"]) == keys - {"path"} | {"place", "missing", "found"}
    assert found["processed"]["facts"]["most points"] == 128
    code, out, _ = invoke("data", "check", "given", "--json")
    assert code == 2
    assert (json.loads(out)["fine"], json.loads(out)["sets"][0]["raw"]) == (False, None)


def test_data_list(invoke: Invoke) -> None:
    code, out, _ = invoke("data", "list")
    assert code == 0
    assert re.search(r"^tiny +generated +there ", out, re.M)
    code, out, _ = invoke("data", "list", "--json")
    [row] = json.loads(out)["sets"]
    assert (row["name"], row["raw"], row["processed"]) == ("tiny", "generated", "there")
    assert row["processed_bytes"] == processed("tiny").stat().st_size


def test_data_list_of_absent_sets_is_quick(invoke: Invoke, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    sets = "\n".join(f"  kicad{i}: {{source: kicad, root: {nowhere}}}" for i in range(10))
    (tmp_path / "params.yaml").write_text(f"datasets:\n{sets}\n")
    command = [sys.executable, "-m", "sa3d", "data", "list", "--params"]
    began = time.monotonic()
    done = subprocess.run([*command, tmp_path / "params.yaml"], capture_output=True, text=True)
    assert time.monotonic() - began < 10  # 0.7 s on an idle machine
    assert len(re.findall(r"^kicad\d +absent +absent", done.stdout, re.M)) == 10


def test_data_fetch_of_what_has_no_address(invoke: Invoke, tmp_path: Path) -> None:
    code, _, err = invoke("data", "fetch", "tiny")
    assert (code, "is generated, there is nothing to fetch" in err) == (2, True)
    (tmp_path / "params.yaml").write_text(f"datasets: {{k: {{source: kicad, root: {tmp_path}}}}}\n")
    code, _, err = invoke("data", "fetch", "k", "--params", str(tmp_path / "params.yaml"))
    assert code == 2
    assert "no public address" in err
    assert "apt-get download" in err


def test_advice_is_of_the_settings_file_that_the_command_was_given(
    invoke: Invoke, tmp_path: Path
) -> None:
    params = tmp_path / "my params.yaml"
    params.write_text(f"datasets: {{k: {{source: kicad, root: {tmp_path}}}}}\nexperiments: {{}}\n")
    code, out, _ = invoke("data", "check", "k", "--params", str(params))
    assert code == 2
    assert f"make it with `sa3d data prepare k --params '{params}'`" in " ".join(out.split())
    code, out, _ = invoke("data", "check", "tiny", "--params", str(params), "--set", "points=64")
    assert code == 2
    code, out, _ = invoke("data", "check", "k")  # not in the default file
    assert "names no source that makes it (but of tiny)" in " ".join(out.split())
    # settings without a section `datasets`, as a flow writes them, say nothing of sources
    params.write_text("experiments: {}\n")
    assert how_to_make("tiny") == how_to_make_with(params, "tiny")


def how_to_make_with(params: Path, name: str) -> str:
    give_params(params)
    try:
        return how_to_make(name)
    finally:
        give_params(None)


def test_data_prepare_or_absent(invoke: Invoke, tmp_path: Path) -> None:
    raw, params = tmp_path / "raw", tmp_path / "params.yaml"
    raw.mkdir()
    params.write_text(f"datasets: {{k: {{source: kicad, root: {raw}}}}}\n")
    words = ["data", "prepare", "k", "--params", str(params), "--out", str(tmp_path)]
    code, _, err = invoke(*words)
    assert (code, "no KiCad models" in err) == (2, True)
    code, out, err = invoke(*words, "--or-absent")
    assert code == 0
    assert err == f"sa3d: no raw data in {raw}; k is absent, and what needs it is skipped\n"
    assert out.strip() == str(tmp_path / "k.h5")
    (raw / "half.deb").write_bytes(b"!<arch>\n")
    code, _, err = invoke(*words, "--or-absent")
    assert (code, "half-downloaded" in err) == (2, True)


def test_data_prepare(invoke: Invoke, tmp_path: Path) -> None:
    small = ["--set", "shapes_per_class=5", "--set", "points=64"]
    code, out, _ = invoke("data", "prepare", "tiny", *small, "--out", str(tmp_path))
    assert code == 0
    assert out.strip() == str(tmp_path / "tiny.h5")
    code, out, _ = invoke("data", "prepare", "tiny", *small, "--out", str(tmp_path), "--quiet")
    assert (code, out) == (0, "")


def test_data_check_of_a_mistyped_name(invoke: Invoke) -> None:
    code, out, _ = invoke("data", "check", "tinny")
    assert code == 2
    assert "no source that makes it (did you mean 'tiny'?) (but of tiny)" in " ".join(out.split())
