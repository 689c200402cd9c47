"""Argument checks shared by the operators: each names the argument and what was expected."""

from __future__ import annotations

import math
import operator
from numbers import Real

import torch
from torch import Tensor

_COMPUTE = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}


def tensor(name: str, value: object, layout: str, last: int | None = None) -> Tensor:
    """Check that `value` is a tensor with the axes of `layout`, e.g. ``"B,N,3"``."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a tensor ({layout}), got {type(value).__name__}")
    axes = layout.count(",") + 1
    if value.dim() != axes:
        raise ValueError(f"{name}: expected shape ({layout}), got {tuple(value.shape)}")
    if last is not None and value.shape[-1] != last:
        raise ValueError(f"{name}: expected shape ({layout}), got {tuple(value.shape)}")
    return value


def cloud(name: str, value: object, layout: str, last: int | None = None) -> Tensor:
    """Check a floating-point tensor; half precision comes back as float32."""
    checked = tensor(name, value, layout, last)
    if checked.dtype not in _COMPUTE:
        raise ValueError(f"{name}: expected a floating dtype, got {checked.dtype}")
    return checked.to(_COMPUTE[checked.dtype])


def pair(name_a: str, a: Tensor, name_b: str, b: Tensor) -> tuple[Tensor, Tensor]:
    """Check that two clouds agree in device, batch and last axis; promote to a common dtype."""
    same_device(name_a, a, name_b, b)
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"{name_b}: expected batch {a.shape[0]} as in {name_a}, got {b.shape[0]}")
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"{name_b}: expected {a.shape[-1]} coordinates as in {name_a}, got {b.shape[-1]}"
        )
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def same_device(name_a: str, a: Tensor, name_b: str, b: Tensor) -> None:
    """Check that two tensors live on one device."""
    if a.device != b.device:
        raise ValueError(f"{name_b}: expected device {a.device} as {name_a}, got {b.device}")


def indices(name: str, value: object, layout: str, like: Tensor, like_name: str) -> Tensor:
    """Check an integer index tensor that goes with `like`; it comes back as int64."""
    checked = tensor(name, value, layout)
    if checked.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name}: expected int64 or int32, got {checked.dtype}")
    same_device(like_name, like, name, checked)
    if checked.shape[0] != like.shape[0]:
        raise ValueError(
            f"{name}: expected batch {like.shape[0]} as in {like_name}, got {checked.shape[0]}"
        )
    return checked.long()


def integer(name: str, value: object) -> int:
    """Check an integer: whatever Python takes for an index, numpy's integers too, but no bool."""
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    truth = isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool)
    try:
        if not truth:
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass  # neither is it an integer: the message below
    raise ValueError(f"{name}: expected an integer, got {type(value).__name__}")


def count(name: str, value: object, upper: int | None = None, what: str = "") -> int:
    """Check an integer in ``1..upper``."""
    number = integer(name, value)
    if number < 1:
        raise ValueError(f"{name}: expected at least 1, got {number}")
    if upper is not None and number > upper:
        raise ValueError(f"{name}: expected at most {upper} ({what}), got {number}")
    return number


def last_derivative(name: str) -> None:
    """For a second derivative that is not differentiable itself: refuse to be asked for a third."""
    if torch.is_grad_enabled():  # create_graph=True
        raise NotImplementedError(f"{name}: third derivatives are not implemented")


def positive(name: str, value: object) -> float:
    """Check a positive, finite number of any of Python's or numpy's real types."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name}: expected a positive number, got {number}")
    return number
