"""N under every convention, and training FLOPs, from the shape alone: no torch, so the planner can count."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counted:
    """Parameter counts and FLOPs of a model of the user's own, as counted from the model itself (models/own.py)."""

    vocab_size: int
    width: int
    depth: int
    context: int
    N_non_embedding: int
    N_with_head: int
    N_total: int
    flops_per_token: int


@dataclass(frozen=True)
class Size:
    """Parameter counts and FLOPs of a transformer without biases or norm gains.

    Fields are those of `params.Model` plus the width and the vocabulary, `context` in tokens.
    """

    vocab_size: int
    width: int
    depth: int
    context: int
    mlp_ratio: int

    @property
    def N_non_embedding(self) -> int:
        """Parameters of attention and MLP matrices: depth (4 + 2 mlp_ratio) width^2 (Kaplan, arXiv 2001.08361)."""
        return self.depth * (4 + 2 * self.mlp_ratio) * self.width**2

    @property
    def N_with_head(self) -> int:
        """Non-embedding parameters and the head: every parameter that takes part in a matrix product."""
        return self.N_non_embedding + self.vocab_size * self.width

    @property
    def N_total(self) -> int:
        """All parameters, the input embedding included (Hoffmann, arXiv 2203.15556)."""
        return self.N_with_head + self.vocab_size * self.width

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs a token: 6 N_with_head + 12 depth context width (attention scores and values).

        A product of a vector and a matrix of n entries costs 2 n FLOPs forward and 4 n backward; attention counts the
        whole context, as in PaLM (arXiv 2204.02311, appendix B). The embedding is a look-up and costs none. Norms,
        softmax and the optimiser are left out, as in every published C.
        """
        return 6 * self.N_with_head + 12 * self.depth * self.context * self.width
