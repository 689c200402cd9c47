"""Mixed precision: bf16 autocast, no loss scaling needed."""

from __future__ import annotations

from typing import Literal

import torch

from sa3d.config.base import Precision
from sa3d.errors import ConfigError


def quickest(device: torch.device, asked: Literal["auto"] | Precision) -> Precision:
    """The precision that is asked for; ``auto``: bf16 where the device computes in it, else fp32.

    Other CPUs have to convert every number, and take longer in bf16 than in fp32.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if device.type == "cpu" and native else "fp32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context of a forward pass; losses and scores take themselves out of it (fp32).

    Raises:
        ConfigError: bf16 on a GPU that has none.
    """
    wanted = precision == "bf16"
    if wanted and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError(
            f"precision=bf16, but {torch.cuda.get_device_name(device)} has no bf16; "
            "set precision to fp32"
        )
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)
