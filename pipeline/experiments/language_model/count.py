"""The size of a model of the user's own: the one thing that a plan has to ask torch for."""

from __future__ import annotations

from pipeline.models import own
from pipeline.models.size import Counted
from pipeline.models.transformer import Shape
from pipeline.params import Model


def count(model: Model, vocab_size: int, width: int) -> Counted:
    """N and FLOPs of the model that `model.build` makes at `width`. Raises ValueError as models/own.py does."""
    return own.count(model.build, shape_of(model, vocab_size, width))


def shape_of(model: Model, vocab_size: int, width: int) -> Shape:
    """The shape of a model at `width`."""
    return Shape(vocab_size, width, model.depth, model.head_size, model.context, model.mlp_ratio, model.rope_base)
