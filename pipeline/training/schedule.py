"""Batch size and learning-rate factor as functions of the tokens seen: no state, no torch, shared with the planner."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from pipeline.params import Batch


@dataclass(frozen=True)
class Course:
    """The way of one run from initialisation to `end` tokens.

    Up to `fork` the batch grows and the rate is constant after `warmup` tokens; from there on the batch keeps its size.
    `shape` says what the rate does: "constant" (a trunk), "linear" (a cooldown to zero over fork..end; Hagele et al.
    2024, arXiv 2405.18392) or "cosine" (to zero over warmup..end). All fields in tokens.
    """

    shape: str
    warmup: int
    fork: int
    end: int

    def rate_factor(self, tokens: int, size: int) -> float:
        """Learning rate over its peak in the step of `size` tokens that starts after `tokens` tokens."""
        if tokens + size < self.warmup:
            return (tokens + size) / self.warmup
        if self.shape == "cosine":
            return 0.5 * (1 + cos(pi * max(0, tokens - self.warmup) / (self.end - self.warmup)))
        if self.shape == "linear" and tokens >= self.fork:
            return (self.end - tokens) / (self.end - self.fork)
        return 1.0


def batch_tokens(batch: Batch, context: int, tokens: int) -> int:
    """Global batch in tokens, a multiple of `context`, of the step that starts after `tokens` tokens.

    B(t) = tokens * max(1, (t / growth_from)^growth_power): the critical batch grows as the loss falls (McCandlish et
    al. 2018, arXiv 1812.06162).
    """
    grown = batch.tokens * max(1.0, (tokens / batch.growth_from) ** batch.growth_power)
    return max(1, round(grown / context)) * context


def step_boundary(batch: Batch, context: int, tokens: int) -> int:
    """The end of the trunk step nearest to `tokens`: the token counts at which a trunk can be left."""
    now = 0
    while now < tokens:
        last, now = now, now + batch_tokens(batch, context, now)
    return now if now == 0 or now - tokens <= tokens - last or last == 0 else last


def branch(batch: Batch, context: int, end: int, fraction: float) -> tuple[int, int]:
    """(fork, end) in tokens of a cooldown over the last `fraction` of about `end` tokens, in whole batches."""
    fork = step_boundary(batch, context, round((1 - fraction) * end))
    size = batch_tokens(batch, context, fork)
    return fork, fork + max(1, round((end - fork) / size)) * size
