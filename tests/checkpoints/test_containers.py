"""Published files, good and bad: read without running anything."""

from __future__ import annotations

import argparse
import collections
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sa3d.checkpoints.containers import read_published, write_published
from sa3d.errors import CheckpointError

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.count": torch.tensor(3)}
OLD = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def saved(folder: Path, tree: Any, zipped: bool = True) -> Path:
    path = folder / "x.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    return path


@OLD
@pytest.mark.parametrize(
    ("tree", "container", "epoch"),
    [
        ({"base_model": WEIGHTS, "epoch": 7, "metrics": {"acc": 0.5}}, "base_model", 7),
        ({"state_dict": WEIGHTS, "model": "point_mae", "epoch": 400}, "state_dict", 400),
        ({"model_state_dict": WEIGHTS, "test_acc": 0.9}, "model_state_dict", None),
        (collections.OrderedDict(WEIGHTS), "", None),
        ({"base_model": {f"module.{k}": v for k, v in WEIGHTS.items()}}, "base_model", None),
    ],
)
def test_containers(tmp_path: Path, tree: Any, container: str, epoch: int, zipped: bool) -> None:
    found = read_published(saved(tmp_path, tree, zipped))
    assert (found.container, found.epoch) == (container, epoch)
    assert set(found.state) == set(WEIGHTS)
    assert all(torch.equal(found.state[name], WEIGHTS[name]) for name in WEIGHTS)
    assert found.prefixed == any("module." in k for k in tree.get("base_model", ()))


def test_a_prefix_on_some_names_only_is_part_of_them(tmp_path: Path) -> None:
    tree = {"base_model": {"module.a": torch.ones(1), "b": torch.ones(1)}}
    found = read_published(saved(tmp_path, tree))
    assert (set(found.state), found.prefixed) == ({"module.a", "b"}, False)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"model": "point_mae", "epoch": 3}, r"no weights under base_model, .*has: model, epoch"),
        ({"model": WEIGHTS}, "no weights under base_model"),
        ({"base_model": "point_mae"}, "no weights under"),
        ({}, "it has: nothing"),
        ([1, 2], "holds a list, not a mapping"),
        (torch.ones(2), "holds a Tensor, not"),
        (
            {"state_dict": {"a": torch.ones(1), "b": 3}},
            "should hold tensors by name, but 'b' is a int",
        ),
        ({"state_dict": {}}, "state_dict should hold tensors by name, but it is empty"),
        ({"state_dict": {0: torch.ones(1)}}, "but '0' is a Tensor"),
    ],
)
def test_files_without_weights_are_refused(tmp_path: Path, tree: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        read_published(saved(tmp_path, tree))


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


class EvilToo(Evil):
    def __reduce__(self) -> Any:
        return eval, (f"__import__('os').system({self.command!r})",)


@OLD
@pytest.mark.parametrize("kind", [Evil, EvilToo])
def test_nothing_is_run(tmp_path: Path, kind: type[Evil], zipped: bool) -> None:
    trace = tmp_path / "trace"
    path = saved(tmp_path, {"base_model": WEIGHTS, "x": kind(f"touch {trace}")}, zipped)
    name = "system" if kind is Evil else "eval"
    with pytest.raises(CheckpointError, match=rf"would build \S*{name} .*else do not load it"):
        read_published(path)
    trusted = "posix.system" if kind is Evil else "builtins.eval"
    with pytest.raises(CheckpointError, match=r"only classes can be trusted, and this is a func"):
        read_published(path, trust=[trusted])
    assert not trace.exists()


@OLD
def test_harmless_classes_are_named_and_can_be_trusted(tmp_path: Path, zipped: bool) -> None:
    tree = {"base_model": WEIGHTS, "args": argparse.Namespace(lr=0.1), "epoch": 2}
    path = saved(tmp_path, tree, zipped)
    with pytest.raises(CheckpointError, match=r"build argparse.Namespace .*mere data: allow them"):
        read_published(path)
    assert read_published(path, trust=["argparse.Namespace"]).epoch == 2
    with pytest.raises(CheckpointError, match="mere data"):
        read_published(path)  # trust holds for one call


def test_numbers_of_numpy(tmp_path: Path) -> None:
    path = saved(tmp_path, {"base_model": WEIGHTS, "metrics": {"acc": np.float64(0.5)}})
    with pytest.raises(CheckpointError) as caught:
        read_published(path)
    said = str(caught.value)
    options = said[said.index("--trust") :].split(" ")[1::2]
    assert set(options) == {"numpy._core.multiarray.scalar", "numpy.dtype"}
    assert read_published(path, trust=options).container == "base_model"


def test_numbers_of_a_numpy_before_2(tmp_path: Path) -> None:
    """The same, by the name that it had then."""
    new = saved(tmp_path, {"base_model": WEIGHTS, "metrics": {"acc": np.float64(0.5)}})
    old = tmp_path / "old.pth"
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in data
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(name, data)
    with pytest.raises(CheckpointError, match=r"--trust numpy\.core\.multiarray\.scalar"):
        read_published(old)
    trust = ["numpy.core.multiarray.scalar", "numpy.dtype"]
    assert set(read_published(old, trust=trust).state) == set(WEIGHTS)


@pytest.mark.parametrize("name", ["nowhere.Thing", "argparse.Nothing", "Namespace", ""])
def test_names_that_are_nowhere_cannot_be_trusted(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="there is no such name here"):
        read_published(saved(tmp_path, {"base_model": WEIGHTS}), trust=[name])


PAGE = b"\n  <!DOCTYPE html><html><body>Quota exceeded</body></html>"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (PAGE, "is a web page, not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of git-lfs"),
        (b"", "is empty; download"),
        (
            b"no pickle at all",
            "is a text file, not a checkpoint; give the .pth",
        ),
        ("Überschrift: hello".encode(), "is a text file, not a checkpoint"),
        (b"hello world", "is a text file, not a checkpoint"),
        (b"\x00\x01\x02", "is no checkpoint that torch.save wrote"),
        (b"PK\x03\x04 and nothing after it", r"damaged or not whole; .* PyTorch says: \w+"),
        (b"\x80\x02}q\x00X\x05", r"damaged or not whole; .* PyTorch says: \w+"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_published(path)
    assert len(str(caught.value).splitlines()) == 1


@OLD
def test_a_truncated_file_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path, {"base_model": WEIGHTS, "epoch": 2}, zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        # the older format may end within the name of a class, which is then asked for
        with pytest.raises(
            CheckpointError, match="is empty|damaged" if zipped else "is empty|damaged|would build"
        ):
            read_published(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*none\.pth: No such file"):
        read_published(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"is a folder; give a published .*--to official"):
        read_published(tmp_path)


@pytest.mark.parametrize("container", ["base_model", ""])
def test_written_files_are_read(tmp_path: Path, container: str) -> None:
    write_published(tmp_path / "x.pth", WEIGHTS, container, 5)
    found = read_published(tmp_path / "x.pth")
    assert (found.container, found.epoch) == (container, 5 if container else None)
    assert all(torch.equal(found.state[name], WEIGHTS[name]) for name in WEIGHTS)
