"""Compiles all that a run calls by carrying it out on the smallest model: python -m pipeline.training.compiled 16"""

from __future__ import annotations

import sys

import numpy as np

from pipeline.models.parametrization import initialise
from pipeline.models.transformer import Shape, Transformer
from pipeline.params import Model, Optimizer
from pipeline.training.compiled.engine import CompiledEngine
from pipeline.training.device import prepare_device


def main() -> None:
    """Leaves the machine code for the head size that the command line names beside the sources."""
    head_size = int(sys.argv[1])
    shape = Shape(256, head_size, 2, head_size, 8, 4, 1000.0)
    model = Model(depth=2, head_size=head_size, context=8)
    prepare_device()
    for kind in ("muon", "adamw"):
        transformer = Transformer(shape)
        initialise(transformer, model.parametrization, 0)
        rates = dict.fromkeys(("matrix_rate", "embedding_rate", "head_rate"), 0.01)
        engine = CompiledEngine(transformer, Optimizer(kind=kind, **rates), model)
        windows = np.arange(2 * 9, dtype=np.int64).reshape(2, 9)
        engine.step(windows, 1.0, 16)
        engine.losses(windows)


if __name__ == "__main__":
    main()
