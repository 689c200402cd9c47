"""GC predictor: how hard is each patch to rebuild, from tokens alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sa3d.layers.batch_norm import BatchNorm
from sa3d.layers.converted import Float32Linear
from sa3d.layers.transformer import Stack, drop_rates, token


class GCPredictor(nn.Module):
    """Geometric complexity of every patch (GM3D, arXiv 2405.12419, and its code).

    A second decoder: it sees the encoder's tokens and a mask token at each masked place, with
    the reconstruction decoder's position embeddings, and gives one score a patch. It learns at
    masked patches; the EMA teacher uses it on visible ones.

    Args:
        dim: C.
        depth: blocks; the published code has 12 for SA3DF and 4 for SA3D.
        heads: attention heads.
        drop_path: largest stochastic-depth rate.
        own_token: False: the reconstruction decoder's mask token is given to every call.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, drop_path: float, own_token: bool = True
    ) -> None:
        super().__init__()
        self.mask_token = token(dim) if own_token else None
        self.stack = Stack(dim, drop_rates(drop_path, depth), heads, init="xavier")
        self.norm = nn.LayerNorm(dim)
        self.hidden = Float32Linear(dim, 1024)
        self.hidden_norm = BatchNorm(1024)
        self.out = Float32Linear(1024, dim)

    def forward(
        self, visible: Tensor, positions: Tensor, shared_token: Tensor | None = None
    ) -> Tensor:
        """Scores, large = hard.

        Args:
            visible: (B, V, C) encoder tokens.
            positions: (B, G, C), visible first. G = V scores visible patches alone.
            shared_token: (1, 1, C), when the predictor has no mask token of its own.

        Returns:
            (B, G) float32, in the order of ``positions``.
        """
        batch, groups, dim = positions.shape
        x = visible
        if groups > visible.shape[1]:
            mask_token = shared_token if self.mask_token is None else self.mask_token
            assert mask_token is not None, "a predictor without a mask token needs a shared one"
            hidden = mask_token.expand(batch, groups - visible.shape[1], -1)
            x = torch.cat([x, hidden.to(x.dtype)], dim=1)
        x = self.norm(self.stack(x, positions))
        # float32 whatever autocast says: half-precision scores tie. All tokens enter the
        # BatchNorm, visible and masked, as its running statistics serve both.
        with torch.autocast(x.device.type, enabled=False):
            rows = self.hidden_norm(self.hidden(x.float().reshape(-1, dim)))
            rows = functional.leaky_relu(rows, 0.2)
            # the mean of C linear outputs is one output with the mean row: same value and
            # gradient, 1/C of the work
            scores = functional.linear(
                rows, self.out.weight.mean(0, keepdim=True), self.out.bias.mean(0, keepdim=True)
            )
        return scores.view(batch, groups)
