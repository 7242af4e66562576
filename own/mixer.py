"""A causal MLP-mixer as a language model, after Tolstikhin et al. 2021 (arXiv 2105.01601): no attention, no recurrence.

    params.yaml: language_model: {model: {build: "own.mixer:build", ...}, ...}

Each block mixes over positions, with one lower-triangular matrix a head, and then over the width, both on a residual
stream. `shape.head_size` is the width that shares one position matrix. Shapes: B windows, T positions, C width, H
heads, K head size, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.transformer import Shape


class Block(nn.Module):
    """Positions first, then the width."""

    def __init__(self, shape: Shape):
        super().__init__()
        C, X, T = shape.width, shape.mlp_ratio * shape.width, shape.context
        self.heads = shape.num_heads
        self.gain = nn.Parameter(torch.ones(2, C))
        self.positions = nn.Parameter(torch.randn(self.heads, T, T) * T**-0.5)
        self.out = nn.Parameter(torch.zeros(C, C))
        self.up = nn.Parameter(torch.randn(X, C) * C**-0.5)
        self.down = nn.Parameter(torch.zeros(C, X))

    def forward(self, x_BTC: Tensor) -> Tensor:
        """The residual stream after the block, same shape."""
        B, T, C = x_BTC.shape
        v_BHTK = F.layer_norm(x_BTC, (C,), self.gain[0]).view(B, T, self.heads, -1).transpose(1, 2)
        mixed = self.positions[:, :T, :T].tril() @ v_BHTK
        x_BTC = x_BTC + F.linear(mixed.transpose(1, 2).reshape(B, T, C), self.out)
        hidden = F.gelu(F.linear(F.layer_norm(x_BTC, (C,), self.gain[1]), self.up))
        return x_BTC + F.linear(hidden, self.down)


class Mixer(nn.Module):
    """Embedding, blocks, head."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(shape.vocab_size, shape.width) * 0.02)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.head = nn.Parameter(torch.zeros(shape.vocab_size, shape.width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of the next token at each position of `tokens` (B, T)."""
        x_BTC = F.embedding(tokens, self.embedding)
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return F.linear(F.layer_norm(x_BTC, x_BTC.shape[-1:]), self.head)

    def groups(self) -> dict[str, list[str]]:
        """The names of the parameters by the optimiser's groups."""
        inner = [name for name, _ in self.named_parameters() if name.startswith("blocks.")]
        return {
            "matrix": [name for name in inner if not name.endswith("gain")],
            "vector": [name for name in inner if name.endswith("gain")],
            "embedding": ["embedding"],
            "head": ["head"],
        }


def build(shape: Shape) -> Mixer:
    """The mixer of that shape."""
    return Mixer(shape)
