"""The training speed of models on this machine, from a few steps of some: what the bill is reckoned with."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.experiments.language_model.plan import size_from
from pipeline.experiments.language_model.run import recipe_of
from pipeline.planning.run_spec import RunSpec
from pipeline.training.device import give_back_memory, prepare_device
from pipeline.training.engine import make_engine
from pipeline.training.peak import matrix_product_rate
from pipeline.training.schedule import batch_tokens

NUM_STEPS = 4
MOST_SECONDS = 2.0
"""A model whose steps must be expected to take longer is not timed."""
MOST_TIMED = 6
"""Models that are timed at most."""
USUAL_PART = 0.5
"""Of the rate of matrix products, where no model can be timed."""


def measure(specs: Sequence[RunSpec]) -> list[float]:
    """Training FLOP/s of the model of each spec.

    Timed are the smallest and, evenly over the sizes, others whose steps take no more than MOST_SECONDS at its rate and
    at that of the one before: small models are slow, and large ones, which may not even fit here, about equally fast.
    One between two that were timed gets a rate between theirs, linear in the logarithms, a larger one that of the
    largest.
    """
    device = prepare_device()
    peak = matrix_product_rate(device)
    give_back_memory(device)
    flops = np.array([_step_flops(spec) for spec in specs])
    sizes, places = np.unique(flops, return_index=True)
    if NUM_STEPS * sizes[0] > MOST_SECONDS * peak:
        return [USUAL_PART * peak] * len(specs)
    rates = [sizes[0] / _step_seconds(specs[places[0]], device)]
    num_short = max(1, int(np.count_nonzero(NUM_STEPS * sizes <= MOST_SECONDS * rates[0])))
    chosen = np.unique(np.linspace(0, num_short - 1, min(num_short, MOST_TIMED)).round().astype(int))
    for index in chosen[1:]:
        if NUM_STEPS * sizes[index] > MOST_SECONDS * rates[-1]:  # Muon's own work grows faster than the model's FLOPs
            break
        rates.append(sizes[index] / _step_seconds(specs[places[index]], device))
    timed = sizes[chosen[: len(rates)]]
    return np.exp(np.interp(np.log(flops), np.log(timed), np.log(rates))).tolist()


def _batch(spec: RunSpec) -> int:
    """Tokens of a batch in the middle of the run's course: small batches are slower."""
    recipe = recipe_of(spec)
    return batch_tokens(recipe.batch, recipe.shape.context, recipe.course.end // 2)


def _step_flops(spec: RunSpec) -> float:
    return float(size_from(spec.settings).flops_per_token * _batch(spec))


def _step_seconds(spec: RunSpec, device: torch.device) -> float:
    """Seconds of the fastest of a few steps on random tokens, after one to warm up."""
    recipe, tokens = recipe_of(spec), _batch(spec)
    engine = make_engine(recipe.shape, recipe.model, recipe.optimizer, recipe.seed, device)
    shape = (tokens // recipe.shape.context, recipe.shape.context + 1)
    windows = np.random.default_rng(0).integers(0, recipe.shape.vocab_size, shape)
    seconds = []
    for _ in range(NUM_STEPS):
        began = time.perf_counter()
        float(engine.step(windows, 1.0, tokens))
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])
