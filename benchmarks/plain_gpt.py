"""A GPT and Muon as commonly written: model and optimiser of the sequential baseline, without the project's code.

After nanoGPT (github.com/karpathy/nanoGPT): one Linear for q, k and v, scaled_dot_product_attention, layer norm, here
without gains and biases, with squared ReLU and rotary positions; and after github.com/KellerJordan/Muon.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.params import Model


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` (..., T, K) with its halves turned by the angle of each position (arXiv 2104.09864)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, shape: Model, width: int):
        super().__init__()
        self.num_heads = width // shape.head_size
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)
        self.c_fc = nn.Linear(width, shape.mlp_ratio * width, bias=False)
        self.c_out = nn.Linear(shape.mlp_ratio * width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The residual stream (B, T, C) after this block."""
        B, T, C = x.shape
        q, k, v = self.c_attn(F.layer_norm(x, (C,))).split(C, dim=2)
        q, k, v = (part.view(B, T, self.num_heads, -1).transpose(1, 2) for part in (q, k, v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.c_out(F.relu(self.c_fc(F.layer_norm(x, (C,)))).square())


class GPT(nn.Module):
    """The model of one width, with the study's distribution of initial weights."""

    def __init__(self, shape: Model, vocab_size: int, width: int):
        super().__init__()
        self.width = width
        self.wte = nn.Embedding(vocab_size, width)
        self.h = nn.ModuleList(Block(shape, width) for _ in range(shape.depth))
        self.lm_head = nn.Linear(width, vocab_size, bias=False)
        rates = shape.rope_base ** (-torch.arange(0, shape.head_size, 2) / shape.head_size)
        angles = torch.outer(torch.arange(shape.context), rates)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        standard = shape.parametrization == "standard"
        for name, weight in self.named_parameters():
            nn.init.normal_(weight, std=0.02 if "wte" in name else weight.shape[1] ** -0.5)
            if "c_proj" in name or "c_out" in name:
                weight.data *= (2 * shape.depth) ** -0.5 if standard else 0.0
            if "lm_head" in name and not standard:
                nn.init.zeros_(weight)

    def forward(self, x: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats/token of the next tokens `y` (B, T) after `x`."""
        stream = F.layer_norm(self.wte(x), (self.width,))
        for block in self.h:
            stream = block(stream, self.cos, self.sin)
        logits = self.lm_head(F.layer_norm(stream, (self.width,)))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.reshape(-1), reduction=reduction)


def newton_schulz(G: Tensor, kind: torch.dtype) -> Tensor:
    """The matrix near `G` with singular values near 1 (Jordan et al. 2024, github.com/KellerJordan/Muon)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    X = (G.T if G.shape[0] > G.shape[1] else G).to(kind)
    X = X / (X.norm() + 1e-7)
    for _ in range(5):
        A = X @ X.T
        X = torch.addmm(X, torch.addmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return X.T if G.shape[0] > G.shape[1] else X


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised matrix by matrix in the precision `kind`; q, k and v are three matrices."""

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float, kind: torch.dtype):
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self.kind = kind

    @torch.no_grad()
    def step(self) -> None:
        """One update."""
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(state["momentum"], group["momentum"])
                blocks = update.split(p.shape[1]) if p.shape[0] == 3 * p.shape[1] else (update,)
                update = torch.cat([newton_schulz(block, self.kind) for block in blocks])
                p.add_(update, alpha=-group["lr"] * max(1, blocks[0].shape[0] / p.shape[1]) ** 0.5)
