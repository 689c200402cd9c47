"""Reading pickles of arrays as a stream, without ever running what is in them.

A pickle is a program that may import and call anything. This reader is no unpickler: it follows
the instructions that build lists, dicts, tuples, numbers, text and NumPy arrays, and knows the
few functions that NumPy's pickles name by their names alone. It imports nothing and calls nothing
that the file asks for; any other name or instruction is refused.

Every array is handed to the caller as soon as it is complete, and forgotten if the caller puts
something small in its place. So a pickle of gigabytes is read in the memory of one batch of its
largest arrays: the bytes of an array are dropped when it is built.

``pickletools.genops`` splits the file into instructions, of all protocols; the text protocol 0
cannot carry arrays through it and is refused with the rest.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.errors import DataError
from sa3d.utils.progress import ProgressBar

Hand = Callable[[NDArray[Any]], object]
"""What takes a complete array of two dimensions and returns what stands for it in the result."""

_MARK: Final = object()
_SPENT: Final = object()  # bytes of an array that is built
_NUMBERS: Final = re.compile(r"[biuf]\d{1,2}")
_LINE: Final = 1024  # bytes of the longest line that a name takes
_MIB: Final = 1 << 20
_SAID: Final = 200  # characters of a message that repeat what the file holds
_SMALL: Final = 256  # bytes; more than this is dropped as soon as its array is built


class _Name(str):
    """A function or class that the pickle names."""


_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NAMES = {
    ("numpy", "ndarray"): _Name("ndarray"),
    ("numpy", "dtype"): _Name("dtype"),
    ("_codecs", "encode"): _Name("encode"),  # how protocol 2 writes bytes
    **{(module, "_reconstruct"): _Name("reconstruct") for module in _ARRAY_MODULES},
    **{(module, "scalar"): _Name("scalar") for module in _ARRAY_MODULES},
    ("numpy.core.numeric", "_frombuffer"): _Name("frombuffer"),
    ("numpy._core.numeric", "_frombuffer"): _Name("frombuffer"),
}


class _RefusedError(Exception):
    """Something in a pickle that is no array."""


class _Empty:
    """An array before its state is set, and its place in the memo."""

    key: int | None = None


class _Kind:
    """A numeric ``dtype`` before and after its byte order is set."""

    def __init__(self, code: object) -> None:
        code = code.decode("latin-1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise _RefusedError(f"an array of type {code!r}")
        self.dtype = np.dtype(code)

    def order(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order in ("<", b"<"):
            self.dtype = self.dtype.newbyteorder("<")
        elif order in (">", b">"):
            self.dtype = self.dtype.newbyteorder(">")
        elif order not in ("|", b"|"):  # single bytes have no order
            raise _RefusedError(f"byte order {order!r}")


def read_pickle(path: Path, hand: Hand, moved: Callable[[int], object] | None = None) -> Any:
    """The object in a pickle, with ``hand(array)`` in the place of every array of 2 dimensions.

    Args:
        path: a pickle of lists, dicts, tuples, numbers, text and arrays of numbers.
        hand: called with each array once, in the order of the file.
        moved: told the number of MiB read since it was last told.

    Raises:
        DataError: truncated, or anything else in it than the above.
    """
    with path.open("rb") as file:
        source = _Bounded(file, path.stat().st_size, moved or (lambda _: None))
        try:
            return _Machine(hand).run(source)
        except _RefusedError as error:
            said = " ".join(str(error).split())[:_SAID]
            raise DataError(
                f"{path} is refused: it holds {said}, where only lists of arrays belong; nothing "
                "of it was run. Fetch it from the official place"
            ) from error
        except (
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            OverflowError,
            RecursionError,
        ) as error:
            # genops' messages for a file that ends early, and ours for a stack that does not fit
            said = " ".join(str(error).split())[:_SAID]
            raise DataError(f"{path} is truncated or no pickle ({said}); fetch it again") from error


def pickle_progress(label: str, paths: Iterable[Path], quiet: bool) -> ProgressBar:
    """Progress through the bytes of pickles; its ``update`` is what :func:`read_pickle` tells."""
    total = sum(path.stat().st_size >> 20 for path in paths)
    return ProgressBar(label, total, "MiB", quiet=quiet)


def one_integer(value: object, name: str, below: int) -> int:
    """A label, of whatever type a pickle gives it: a number, or an array of one.

    Raises:
        DataError: no single integer in ``range(below)``.
    """
    # lists may be ragged or of any depth, and a number of any length: none of them is shown
    single = isinstance(value, np.integer | np.ndarray) or (
        isinstance(value, int) and value.bit_length() < 64
    )
    array = np.asarray(value if single else ())
    if array.size != 1 or array.dtype.kind not in "iu":
        raise DataError(f"{name} has a label of type {type(value).__name__}, expected one integer")
    label = int(array.reshape(-1)[0])
    if not 0 <= label < below:
        raise DataError(f"{name} has label {label}, expected 0 to {below - 1}")
    return label


class _Bounded:
    """A file that never reads more than there is, whatever length a pickle claims."""

    def __init__(self, file: IO[bytes], size: int, moved: Callable[[int], object]) -> None:
        self._file, self._left, self._moved, self._untold = file, size, moved, 0

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._count(len(data))
        return data

    def readline(self) -> bytes:
        data = self._file.readline(_LINE)
        self._count(len(data))
        return data

    def tell(self) -> int:
        return self._file.tell()

    def _count(self, size: int) -> None:
        self._left -= size
        self._untold += size
        if self._untold >= _MIB:
            self._moved(self._untold // _MIB)
            self._untold %= _MIB


class _Machine:
    """The stack and memo of a pickle, for the instructions that data needs."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._large: list[int] = []  # memo entries that hold bytes of an unfinished array

    def run(self, source: _Bounded) -> Any:
        for opcode, argument, _ in pickletools.genops(source):  # type: ignore[arg-type]
            name = opcode.name
            if name == "STOP":
                (result,) = self._stack
                return result
            step = getattr(self, f"_op_{name.lower()}", None)
            if step is not None:
                step(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            elif name in _LITERALS:
                self._stack.append(argument)
            else:
                raise _RefusedError(f"the instruction {name}")
        raise ValueError("it has no end")

    # --- nothing to do, text, bytes ------------------------------------------------------

    def _op_proto(self, argument: int) -> None:
        """Every protocol's instructions are told by themselves."""

    def _op_frame(self, argument: int) -> None:
        """Only tells how far to read ahead."""

    def _op_binstring(self, argument: str) -> None:
        self._stack.append(argument.encode("latin-1"))  # text or bytes of Python 2

    _op_short_binstring = _op_binstring

    # --- memo ----------------------------------------------------------------------------

    def _op_memoize(self, _: None) -> None:
        self._put(len(self._memo))

    def _op_binput(self, key: int) -> None:
        self._put(key)

    _op_long_binput = _op_binput

    def _put(self, key: int) -> None:
        value = self._memo[key] = self._stack[-1]
        if isinstance(value, _Empty):
            value.key = key
        elif _holds_large(value):
            self._large.append(key)

    def _op_binget(self, key: int) -> None:
        if self._memo[key] is _SPENT:
            raise _RefusedError("the bytes of one array twice")
        self._stack.append(self._memo[key])

    _op_long_binget = _op_binget

    # --- containers ----------------------------------------------------------------------

    def _op_mark(self, _: None) -> None:
        self._stack.append(_MARK)

    def _op_pop(self, _: None) -> None:
        self._stack.pop()

    def _since_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("its stack has no mark")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def _op_append(self, _: None) -> None:
        item = self._stack.pop()
        self._list().append(item)

    def _op_appends(self, _: None) -> None:
        items = self._since_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        if not isinstance(self._stack[-1], list):
            raise _RefusedError("items of something that is no list")
        found: list[Any] = self._stack[-1]
        return found

    def _op_list(self, _: None) -> None:
        self._stack.append(self._since_mark())

    def _op_tuple(self, _: None) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _op_tuple1(self, _: None) -> None:
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def _op_tuple2(self, _: None) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def _op_tuple3(self, _: None) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    def _op_dict(self, _: None) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._set(items)

    def _op_setitem(self, _: None) -> None:
        items = self._stack[-2:]
        del self._stack[-2:]
        self._set(items)

    def _op_setitems(self, _: None) -> None:
        self._set(self._since_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise _RefusedError("entries of something that is no dict")
        names = items[::2]
        if not all(isinstance(name, str | bytes | int) for name in names):
            raise _RefusedError("a dict whose keys are no names")
        target.update(zip(names, items[1::2], strict=True))

    # --- what NumPy's pickles call -------------------------------------------------------

    def _op_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(_known(module, name))

    def _op_stack_global(self, _: None) -> None:
        module, name = self._stack[-2:]
        self._stack[-2:] = [_known(module, name)]

    def _op_reduce(self, _: None) -> None:
        arguments = self._stack.pop()
        function = self._stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _RefusedError("a call of something that is no function")
        self._stack.append(self._call(function, arguments))

    def _call(self, function: _Name, arguments: tuple[Any, ...]) -> object:
        if function == "reconstruct" and arguments[:1] == (_NAMES["numpy", "ndarray"],):
            return _Empty()
        if function == "dtype":
            return _Kind(arguments[0])
        if function == "encode" and arguments[1:] in (("latin1",), (b"latin1",)):
            return str.encode(arguments[0], "latin-1")
        if function == "scalar" and isinstance(arguments[0], _Kind):
            return np.frombuffer(_bytes(arguments[1]), arguments[0].dtype, 1)[0]
        if function == "frombuffer" and isinstance(arguments[1], _Kind):
            data, kind, shape, order = arguments
            return self._finished(data, kind, shape, "F" if order in ("F", b"F") else "C")
        raise _RefusedError(f"a call of {function} with other arguments than an array has")

    def _op_build(self, _: None) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, _Kind):
            target.order(state)
            return
        if not (
            isinstance(target, _Empty)
            and isinstance(state, tuple)
            and len(state) == 5
            and isinstance(state[2], _Kind)
        ):
            raise _RefusedError("the state of something that is no array")
        _, shape, kind, fortran, data = state
        built = self._finished(data, kind, shape, "F" if fortran else "C")
        self._stack[-1] = built
        if target.key is not None:
            self._memo[target.key] = built

    def _finished(self, data: object, kind: _Kind, shape: object, order: Any) -> object:
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise _RefusedError(f"an array of shape {shape!r}")
        array = np.frombuffer(_bytes(data), kind.dtype).reshape(shape, order=order)
        for key in self._large:
            self._memo[key] = _SPENT
        self._large.clear()
        return self._hand(array) if array.ndim == 2 else array


_CONSTANTS: dict[str, Callable[[], object]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


def _known(module: object, name: object) -> _Name:
    known = _NAMES.get((str(module), str(name)))
    if known is None:
        raise _RefusedError(f"the name {module}.{name}")
    return known


def _bytes(data: object) -> bytes:
    if not isinstance(data, bytes | bytearray):
        raise _RefusedError("an array of objects")
    return bytes(data)


def _holds_large(value: object) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return any(isinstance(each, bytes | bytearray | str) and len(each) > _SMALL for each in parts)
