"""The training speed of a model on this machine, from a few steps: what the bill is reckoned with."""

from __future__ import annotations

import time

import numpy as np
import torch

from pipeline.experiments.language_model.plan import size_from
from pipeline.experiments.language_model.run import recipe_of
from pipeline.models.parametrization import initialise
from pipeline.models.transformer import Transformer
from pipeline.planning.run_spec import RunSpec
from pipeline.training.device import arithmetic, prepare_device
from pipeline.training.optimizer import Optimizer
from pipeline.training.schedule import batch_tokens

NUM_STEPS = 4


def measure(spec: RunSpec) -> float:
    """Training FLOP/s of the model of `spec`: the fastest of a few steps on random tokens, after one to warm up.

    The batch is that of the middle of the run's course, since small batches are slower.
    """
    recipe, device = recipe_of(spec), prepare_device()
    model = Transformer(recipe.shape)
    initialise(model, recipe.model.parametrization, recipe.seed)
    model.to(device)
    optimizer = Optimizer(model, recipe.optimizer, recipe.model)
    tokens = batch_tokens(recipe.batch, recipe.shape.context, recipe.course.end // 2)
    shape = (tokens // recipe.shape.context, recipe.shape.context + 1)
    windows = torch.from_numpy(np.random.default_rng(0).integers(0, recipe.shape.vocab_size, shape)).to(device)
    seconds = []
    for _ in range(NUM_STEPS):
        began = time.perf_counter()
        with arithmetic(device):
            loss = model.loss(windows)
        loss.backward()
        optimizer.step(1.0)
        float(loss.detach())
        seconds.append(time.perf_counter() - began)
    return size_from(spec.settings).flops_per_token * tokens / min(seconds[1:])
