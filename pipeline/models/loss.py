"""The loss of a language model, whatever stands behind its logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def next_token_loss(model: nn.Module, windows: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats/token of `windows` (B, T + 1): a scalar for "mean", (B, T) for "none"."""
    logits = model(windows[:, :-1]).float()
    losses = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction=reduction)
    return losses if reduction == "mean" else losses.view(windows.shape[0], -1)
