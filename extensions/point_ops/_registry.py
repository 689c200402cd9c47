"""One place where an operator's schema, kernels, fake and gradient meet `torch.library`.

Each operator file calls :func:`register` once. The C++ library, when it was built, registers its
CPU kernels by itself on loading; an operator without one gets the torch reference.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

from . import _native


class _Library(torch.library.Library):
    """torch's library; gradients of its operators refuse forward mode instead of dropping it."""

    def impl(self, op_name: Any, fn: Any, dispatch_key: str = "", **how: Any) -> Any:
        """See the base class. `torch.library.register_autograd` arrives here, with "Autograd"."""
        if dispatch_key == "Autograd":
            fn = _without_forward_mode(op_name, fn)
        return super().impl(op_name, fn, dispatch_key, **how)  # type: ignore[no-untyped-call]


def _without_forward_mode(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """`kernel`, refusing tangents: it knows no forward mode and would answer without them."""

    def checked(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        for tensor in tensors:
            dual = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
            if dual.tangent is not None:
                raise NotImplementedError(
                    f"point_ops::{name}: forward-mode derivatives (torch.func.jvp, jacfwd, "
                    "torch.autograd.forward_ad) are not implemented; backward() and "
                    "torch.autograd.grad work"
                )
        return kernel(keyset, *args, **kwargs)

    return checked


LIBRARY = _Library("point_ops", "DEF")  # type: ignore[no-untyped-call]
HAS_TRITON = importlib.util.find_spec("triton") is not None and not _native.FORCED_TORCH
_BACKENDS: dict[str, dict[str, str]] = {"cpu": {}, "cuda": {}}


def register(
    name: str,
    signature: str,
    *,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    cuda: Callable[..., Any] | None = None,
    cuda_backend: str = "triton",
) -> Any:
    """Declare operator `point_ops::name` and return its overload.

    Args:
        name: operator name, also the key in :func:`backends`.
        signature: the schema without the name, e.g. ``"(Tensor x, SymInt k) -> Tensor"``.
        reference: readable torch implementation: oracle of the tests and fallback on any device.
        fake: returns empty outputs of the right shape and dtype, for compile and export.
        cuda: implementation for the GPU; the reference serves there without one.
        cuda_backend: what `cuda` is made of. Triton ones are left out where triton is missing.
    """
    LIBRARY.define(name + signature)  # type: ignore[no-untyped-call]
    qualified = f"point_ops::{name}"
    if _native.has_kernel(qualified):
        _BACKENDS["cpu"][name] = "cpp"
    else:
        LIBRARY.impl(name, reference, "CPU")
        _BACKENDS["cpu"][name] = "torch"
    if cuda_backend == "triton" and not HAS_TRITON:
        cuda = None
    LIBRARY.impl(name, cuda or reference, "CUDA")
    _BACKENDS["cuda"][name] = cuda_backend if cuda else "torch"
    torch.library.register_fake(qualified, fake, lib=LIBRARY)
    return getattr(torch.ops.point_ops, name).default


def triton(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of `point_ops.<module>`, which imports triton: so at its first call."""

    def call(*args: Any) -> Any:
        return getattr(importlib.import_module(f"point_ops.{module}"), name)(*args)

    return call


def autograd(name: str, backward: Callable[..., Any], setup: Callable[..., Any]) -> None:
    """Attach a gradient to operator `point_ops::name`."""
    torch.library.register_autograd(
        f"point_ops::{name}", backward, setup_context=setup, lib=LIBRARY
    )


def backends(device: str | None = None) -> dict[str, str]:
    """Which backend serves each operator: ``"cpp"``, ``"triton"`` or ``"torch"``.

    Args:
        device: ``"cpu"`` or ``"cuda"``; by default the GPU when there is one, else the CPU.

    Raises:
        ValueError: any other device.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in _BACKENDS:
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {device!r}")
    return dict(_BACKENDS[device])
