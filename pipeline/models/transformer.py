"""Decoder-only transformer in plain torch.

Shapes: B windows, T positions, C width, H heads, K head size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STACKS = ("qkv", "out", "up", "down")
"""The hidden matrices of a Transformer."""


@dataclass(frozen=True)
class Shape:
    """Everything that fixes the size of a model. `context` is in tokens."""

    vocab_size: int
    width: int
    depth: int
    head_size: int
    context: int
    mlp_ratio: int
    rope_base: float

    @property
    def num_heads(self) -> int:
        """Attention heads a layer."""
        return self.width // self.head_size


class SquaredReLU(torch.autograd.Function):
    """relu(x)^2 (So et al. 2021, arXiv 2109.08668), which keeps only relu(x) for the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        h = F.relu(x)
        ctx.save_for_backward(h)
        return h * h

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        return (gradient * h).mul_(2)


class Transformer(nn.Module):
    """Language model with rotary positions (Su et al. 2021, arXiv 2104.09864) and an untied head.

    Blocks are pre-norm attention and squared-ReLU layers on a residual stream; norms without gain, no biases. The
    matrices of all L blocks are stacked: qkv (L, 3 C, C), out (L, C, C), up (L, M C, C) and down (L, C, M C).
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        V, C, L, X = shape.vocab_size, shape.width, shape.depth, shape.mlp_ratio * shape.width
        self.embedding = nn.Parameter(torch.empty(V, C))
        self.qkv = nn.Parameter(torch.empty(L, 3 * C, C))
        self.out = nn.Parameter(torch.empty(L, C, C))
        self.up = nn.Parameter(torch.empty(L, X, C))
        self.down = nn.Parameter(torch.empty(L, C, X))
        self.head = nn.Parameter(torch.empty(V, C))
        angles = rotary_angles(shape)
        turn = torch.stack([angles.cos(), angles.sin()])[:, :, None, None]
        self.register_buffer("turn", turn, persistent=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V) of the next token at each position."""
        x_BTC = F.layer_norm(F.embedding(tokens_BT, self.embedding), (self.shape.width,))
        for layer in range(self.shape.depth):
            x_BTC = self.block(layer, x_BTC)
        return F.linear(F.layer_norm(x_BTC, (self.shape.width,)), self.head)

    def block(self, layer: int, x_BTC: Tensor) -> Tensor:
        """The residual stream after block `layer`, same shape as `x_BTC`."""
        B, T, C = x_BTC.shape
        H, K = self.shape.num_heads, self.shape.head_size
        qk, v = F.linear(F.layer_norm(x_BTC, (C,)), self.qkv[layer]).split([2 * C, C], dim=-1)
        first, second = qk.view(B, T, 2, H, K).chunk(2, dim=-1)
        cosine, sine = self.turn[:, :T].to(v.dtype)
        turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
        q_BTHK, k_BTHK = turned.unbind(2)
        y_BHTK = F.scaled_dot_product_attention(
            q_BTHK.transpose(1, 2), k_BTHK.transpose(1, 2), v.view(B, T, H, K).transpose(1, 2), is_causal=True
        )
        x_BTC = x_BTC + F.linear(y_BHTK.transpose(1, 2).reshape(B, T, C), self.out[layer])
        hidden = SquaredReLU.apply(F.linear(F.layer_norm(x_BTC, (C,)), self.up[layer]))
        return x_BTC + F.linear(hidden, self.down[layer])

    def groups(self) -> dict[str, list[str]]:
        """The names of the parameters by the optimiser's groups (see models/own.py)."""
        return {"matrix": list(STACKS), "embedding": ["embedding"], "head": ["head"]}


def rotary_angles(shape: Shape) -> Tensor:
    """The angle (T, K / 2) in radians by which elements i and i + K / 2 of a query or key turn, as a pair."""
    rates = shape.rope_base ** (-torch.arange(0, shape.head_size, 2) / shape.head_size)
    return torch.outer(torch.arange(shape.context), rates)
