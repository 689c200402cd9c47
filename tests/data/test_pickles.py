"""The reader of pickles: what data sets hold is read, anything else is refused and never run."""

from __future__ import annotations

import contextlib
import os
import pickle
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa3d.data.sources.official.pickles import one_integer, read_pickle
from sa3d.errors import DataError

RNG = np.random.default_rng(0)


def read(path: Path, data: bytes) -> tuple[Any, list[np.ndarray]]:
    """The object of a pickle and its arrays of two dimensions, in order."""
    path.write_bytes(data)
    arrays: list[np.ndarray] = []

    def hand(array: np.ndarray) -> str:
        arrays.append(array)
        return f"<{len(arrays) - 1}>"

    return read_pickle(path, hand), arrays


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "u1"])
def test_arrays_and_what_holds_them(protocol: int, dtype: str, tmp_path: Path) -> None:
    clouds = [RNG.integers(0, 200, (7, 6)).astype(dtype) for _ in range(3)]
    labels = [np.array([k], dtype=np.int32) for k in range(3)]
    tree = {"train": [(clouds[0], 1, np.int64(5))], "rest": [clouds[1:], labels, (), None, 2.5]}
    found, arrays = read(tmp_path / "x", pickle.dumps(tree, protocol))
    assert found["train"] == [("<0>", 1, 5)]
    assert found["rest"][0] == ["<1>", "<2>"]
    assert found["rest"][1] == [[0], [1], [2]]
    assert found["rest"][2:] == [(), None, 2.5]
    assert len(arrays) == 3
    for one, other in zip(arrays, clouds, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_the_same_array_twice_is_handed_over_once(protocol: int, tmp_path: Path) -> None:
    one = RNG.normal(size=(50, 6))
    found, arrays = read(
        tmp_path / "x", pickle.dumps([one, [one], np.asfortranarray(one)], protocol)
    )
    assert found == ["<0>", ["<0>"], "<1>"]
    np.testing.assert_array_equal(arrays[1], one)


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    # cPickle of Python 2, protocol 2, wrote text and an array's bytes as BINSTRING
    array = np.arange(6, dtype="<f4").reshape(1, 6) + 200
    raw = array.tobytes()
    data = (
        b"\x80\x02}q\x01U\x05trainq\x02]q\x03"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85q\x06"
        b"U\x01bq\x07\x87q\x08Rq\x09(K\x01K\x01K\x06\x86q\x0acnumpy\ndtype\nq\x0bU\x02f4q\x0c"
        b"K\x00K\x01\x87q\x0dRq\x0e(K\x03U\x01<q\x0fNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
        b"tq\x10b\x89T" + len(raw).to_bytes(4, "little") + raw + b"q\x11tq\x12bas."
    )
    found, [read_back] = read(tmp_path / "x", data)
    assert found == {b"train": ["<0>"]}
    np.testing.assert_array_equal(read_back, array)
    [again] = pickle.loads(data, encoding="latin1")["train"]
    np.testing.assert_array_equal(again, array)  # it is what Python 3 reads of it


class Runs:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("deep", [False, True])
def test_nothing_in_a_pickle_is_run(protocol: int, deep: bool, tmp_path: Path) -> None:
    harm = Runs(tmp_path / "harm")
    tree = [[np.zeros((2, 6)), (harm, 1)]] if deep else harm
    with pytest.raises(DataError, match="nothing of it was run"):
        read(tmp_path / "x", pickle.dumps(tree, protocol))
    assert not harm.path.exists()
    pickle.loads(pickle.dumps(harm, protocol))
    assert harm.path.exists()  # the test would have seen it


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(a=1),
        np.array([{"a": 1}], dtype=object),
        np.array(["text"]),
        np.zeros(2, dtype=[("a", "f4")]),
        np.datetime64("2020-01-01"),
        print,
        {1, 2},
        3 + 4j,
        Path("x"),
    ],
    ids=str,
)
def test_other_objects_are_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x is refused: it holds|x is truncated"):
        read(tmp_path / "x", pickle.dumps([value], 4))


def test_a_dict_of_anything_but_names_is_refused(tmp_path: Path) -> None:
    # the hash of a tuple of tuples, 300 000 deep, would overflow the stack
    deep = b"\x80\x02})" + b"\x85" * 300_000 + b"Ns."
    with pytest.raises(DataError, match="keys are no names"):
        read(tmp_path / "x", deep)


def test_a_message_is_short_whatever_a_file_holds(tmp_path: Path) -> None:
    name = b"a\n" * 2500
    data = b"\x80\x04X" + len(name).to_bytes(4, "little") + name + b"X\x01\x00\x00\x00b\x93."
    with pytest.raises(DataError, match="it holds the name a a a") as error:
        read(tmp_path / "x", data)
    assert len(str(error.value)) < 400 + len(str(tmp_path))
    assert "\n" not in str(error.value)


def test_an_extension_code_or_persistent_id_is_refused(tmp_path: Path) -> None:
    for data in (b"\x80\x02\x82\x01.", b"\x80\x02K\x01Q."):
        with pytest.raises(DataError, match="the instruction"):
            read(tmp_path / "x", data)


def test_every_shorter_file_is_truncated(tmp_path: Path) -> None:
    whole = pickle.dumps([[RNG.normal(size=(3, 6))], [np.array([1])]], 4)
    for length in range(len(whole)):
        with pytest.raises(DataError, match="truncated or no pickle"):
            read(tmp_path / "x", whole[:length])


@given(st.binary(max_size=60), st.integers(0, 150))
def test_whatever_is_in_it_the_answer_is_a_value_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    whole = pickle.dumps([[np.ones((2, 6))], [np.array([1])]], 4)
    with contextlib.suppress(DataError):
        read(tmp_path_factory.mktemp("x") / "x", whole[:at] + noise + whole[at + len(noise) :])


def test_a_claimed_length_takes_no_memory(tmp_path: Path) -> None:
    huge = b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"few bytes"
    with pytest.raises(DataError, match="truncated"):
        read(tmp_path / "x", huge)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_memory_holds_one_array_of_many(protocol: int, tmp_path: Path) -> None:
    count, size = 60, 1 << 20
    path = tmp_path / "x"
    path.write_bytes(
        pickle.dumps([[np.full((size // 8, 1), float(k)) for k in range(count)], [1]], protocol)
    )
    tracemalloc.start()
    seen: list[float] = []
    try:
        found = read_pickle(path, lambda array: seen.append(float(array[0, 0])))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == [float(k) for k in range(count)]
    assert found == [[None] * count, [1]]
    assert peak < 6 * size


def test_progress_adds_up_to_the_size(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(pickle.dumps([RNG.bytes(500_000) for _ in range(11)], 4))
    moved: list[int] = []
    read_pickle(path, lambda array: None, moved.append)
    assert sum(moved) == path.stat().st_size >> 20


@pytest.mark.parametrize("value", [3, np.int64(3), np.array([3], np.int32), np.array(3, np.uint8)])
def test_a_label_in_any_form(value: object) -> None:
    assert one_integer(value, "x", 4) == 3
    with pytest.raises(DataError, match="x has label 3, expected 0 to 2"):
        one_integer(value, "x", 3)


@pytest.mark.parametrize("value", [1.5, "3", np.array([1, 2]), np.array([]), None, [1, "a"], True])
def test_what_is_no_label(value: object) -> None:
    with pytest.raises(DataError, match="expected one integer"):
        one_integer(value, "x", 4)
