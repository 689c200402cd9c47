"""Which precision `auto` is."""

import pytest
import torch

from sa3d.engine.precision import quickest

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("bf16", "amx", "found"),
    [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")],
)
def test_auto_is_bf16_on_a_cpu_that_computes_in_it(monkeypatch, bf16, amx, found):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert quickest(CPU, "auto") == found
    assert [quickest(CPU, asked) for asked in ("fp32", "bf16")] == ["fp32", "bf16"]
