"""Mixed precision: bf16 autocast, no loss scaling needed."""

from __future__ import annotations

import torch

from sa3d.config.base import Precision
from sa3d.errors import ConfigError


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
