"""The training speed of a model on this machine, from a few steps: what the bill is reckoned with."""

from __future__ import annotations

import time

import numpy as np

from pipeline.experiments.language_model.plan import size_from
from pipeline.experiments.language_model.run import recipe_of
from pipeline.planning.run_spec import RunSpec
from pipeline.training.device import prepare_device
from pipeline.training.engine import make_engine
from pipeline.training.schedule import batch_tokens

NUM_STEPS = 4


def measure(spec: RunSpec) -> float:
    """Training FLOP/s of the model of `spec`: the fastest of a few steps on random tokens, after one to warm up.

    The batch is that of the middle of the run's course, since small batches are slower.
    """
    recipe = recipe_of(spec)
    engine = make_engine(recipe.shape, recipe.model, recipe.optimizer, recipe.seed, prepare_device())
    tokens = batch_tokens(recipe.batch, recipe.shape.context, recipe.course.end // 2)
    shape = (tokens // recipe.shape.context, recipe.shape.context + 1)
    windows = np.random.default_rng(0).integers(0, recipe.shape.vocab_size, shape)
    seconds = []
    for _ in range(NUM_STEPS):
        began = time.perf_counter()
        float(engine.step(windows, 1.0, tokens))
        seconds.append(time.perf_counter() - began)
    return size_from(spec.settings).flops_per_token * tokens / min(seconds[1:])
