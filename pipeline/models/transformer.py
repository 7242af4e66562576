"""Decoder-only transformer in plain torch.

Shapes: B windows, T positions, C width, H heads, K head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        self.register_buffer("turn", rotary_turn(shape), persistent=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V) of the next token at each position."""
        x_BTC = F.layer_norm(F.embedding(tokens_BT, self.embedding), (self.shape.width,))
        for layer in range(self.shape.depth):
            x_BTC = self.block(layer, x_BTC)
        return F.linear(F.layer_norm(x_BTC, (self.shape.width,)), self.head)

    def block(self, layer: int, x_BTC: Tensor) -> Tensor:
        """The residual stream after block `layer`, same shape as `x_BTC`."""
        return block(x_BTC, self.shape, self.turn, **self.matrices(layer))

    def matrices(self, layer: int) -> dict[str, Tensor]:
        """The matrices of block `layer` by name."""
        return {name: getattr(self, name)[layer] for name in STACKS}

    def groups(self) -> dict[str, list[str]]:
        """The names of the parameters by the optimiser's groups (see models/own.py)."""
        return {"matrix": list(STACKS), "embedding": ["embedding"], "head": ["head"]}

    def in_turn(self) -> Iterator[tuple[str, Tensor]]:
        """(name, matrix) of all weights, in the order in which they are drawn: layer by layer."""
        yield from (("embedding", self.embedding), ("head", self.head))
        for layer in range(self.shape.depth):
            yield from self.matrices(layer).items()


class Layer(nn.Module):
    """One block of a Transformer with matrices of its own: qkv (3 C, C), out (C, C), up (M C, C) and down (C, M C)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, C, X = shape, shape.width, shape.mlp_ratio * shape.width
        self.qkv = nn.Parameter(torch.empty(3 * C, C))
        self.out = nn.Parameter(torch.empty(C, C))
        self.up = nn.Parameter(torch.empty(X, C))
        self.down = nn.Parameter(torch.empty(C, X))

    def forward(self, x_BTC: Tensor, turn: Tensor) -> Tensor:
        """The residual stream after the block, same shape as `x_BTC`."""
        return block(x_BTC, self.shape, turn, self.qkv, self.out, self.up, self.down)


class LayeredTransformer(Transformer):
    """The same model with a module for each layer in place of the stacks, so that a layer can be held by itself."""

    def __init__(self, shape: Shape):
        super().__init__(shape)
        for name in STACKS:
            delattr(self, name)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.depth))

    def block(self, layer: int, x_BTC: Tensor) -> Tensor:
        """See Transformer."""
        return self.layers[layer](x_BTC, self.turn)

    def matrices(self, layer: int) -> dict[str, Tensor]:
        """See Transformer."""
        return {name: getattr(self.layers[layer], name) for name in STACKS}

    def groups(self) -> dict[str, list[str]]:
        """See Transformer."""
        names = [f"layers.{layer}.{name}" for layer in range(self.shape.depth) for name in STACKS]
        return super().groups() | {"matrix": names}


def block(x_BTC: Tensor, shape: Shape, turn: Tensor, qkv: Tensor, out: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The residual stream after a block with these matrices, same shape as `x_BTC`; `turn` is that of `rotary_turn`."""
    B, T, C = x_BTC.shape
    H, K = shape.num_heads, shape.head_size
    qk, v = F.linear(F.layer_norm(x_BTC, (C,)), qkv).split([2 * C, C], dim=-1)
    first, second = qk.view(B, T, 2, H, K).chunk(2, dim=-1)
    cosine, sine = turn[:, :T].to(v.dtype)
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    q_BTHK, k_BTHK = turned.unbind(2)
    y_BHTK = F.scaled_dot_product_attention(
        q_BTHK.transpose(1, 2), k_BTHK.transpose(1, 2), v.view(B, T, H, K).transpose(1, 2), is_causal=True
    )
    x_BTC = x_BTC + F.linear(y_BHTK.transpose(1, 2).reshape(B, T, C), out)
    hidden = SquaredReLU.apply(F.linear(F.layer_norm(x_BTC, (C,)), up))
    return x_BTC + F.linear(hidden, down)


def rotary_angles(shape: Shape) -> Tensor:
    """The angle (T, K / 2) in radians by which elements i and i + K / 2 of a query or key turn, as a pair."""
    rates = shape.rope_base ** (-torch.arange(0, shape.head_size, 2) / shape.head_size)
    return torch.outer(torch.arange(shape.context), rates)


def rotary_turn(shape: Shape) -> Tensor:
    """Cosine and sine of the rotary angles, (2, T, 1, 1, K / 2)."""
    angles = rotary_angles(shape)
    return torch.stack([angles.cos(), angles.sin()])[:, :, None, None]
