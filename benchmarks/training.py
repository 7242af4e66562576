"""Speed of real training by size against this machine's matrix products: python -m benchmarks.training.

As many processes as the study has workers train the same thing at the same time, each on one thread (or the GPU, with
one process), through `pipeline.training.trainer.train`. A measurement is the difference of a longer and a shorter run
on one batch size, so that what a run costs besides its steps falls out; the mix of batch sizes of a width's whole tree
(trunk and cooldowns) weighs them. The peak is that of torch.mm or of the BLAS of the compiled step, whichever is
faster, measured in the same way in the same round: 1024^3 in fp32 on the CPU, 8192^3 in bfloat16 on a GPU. FLOPs are
those of the model (models/size.py): the optimiser's count as none, so `gemm_fraction`, the least over the widths of
100,000 parameters and up, is a model FLOP utilisation. Beside it stands the fraction with the products of Newton-Schulz
counted, and the fraction that would be 1 with them: the bound.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch

from benchmarks.stopwatch import num_cores, rounded, spread
from pipeline.corpus.shards import open_corpus
from pipeline.experiments.experiment import CorpusFacts
from pipeline.experiments.language_model.plan import plan, size_from
from pipeline.experiments.language_model.run import recipe_of
from pipeline.params import Batch, LanguageModel, Train, read_params
from pipeline.training import trainer
from pipeline.training.device import prepare_device
from pipeline.training.optimizer import COEFFICIENTS
from pipeline.training.peak import products
from pipeline.training.schedule import Course, batch_tokens

NUM_ROUNDS = 5
LARGE = 100_000
"""Non-embedding parameters from which on a size counts for `gemm_fraction`."""
BATCH_SIZES = 4
SECONDS = 0.6
"""About how long the longer run of a measurement takes beyond the shorter one, and how long the product is timed."""
SHORT_STEPS = 4
LONGEST = 120.0
"""Seconds for which a process waits for the others: when one fails, all end."""

_together: list[Barrier] = []


@dataclass(frozen=True)
class Mix:
    """A width's recipe, its FLOPs a token, and its tree as (batch in tokens, number of steps)."""

    recipe: trainer.Recipe
    N: int
    flops_per_token: int
    steps: tuple[tuple[int, int], ...]

    @property
    def batches(self) -> list[int]:
        """Batch sizes in tokens at which the width is timed: a few between its least and its greatest."""
        context = self.recipe.shape.context
        windows = np.linspace(self.steps[0][0], self.steps[-1][0], BATCH_SIZES) / context
        return sorted({round(x) * context for x in windows})

    @property
    def model_share(self) -> float:
        """FLOPs of the model over those of the model and of Muon, in the whole tree: at most this fraction is reached.

        A block of m x n, m <= n, costs 4 m^2 n for its Gram matrix and the last product, and k polynomials of that
        matrix 2 (4 k - 3) m^3.
        """
        if self.recipe.optimizer.kind != "muon":
            return 1.0
        shape, k = self.recipe.shape, len(COEFFICIENTS)
        C, K, X = shape.width, shape.head_size, shape.mlp_ratio * shape.width
        blocks = {(K, C): 3 * C // K, (C, C): 1, (C, X): 2}
        muon = sum(number * (4 * m * m * n + 2 * (4 * k - 3) * m**3) for (m, n), number in blocks.items())
        sizes, counts = np.array(self.steps).T
        model = float((sizes * counts).sum()) * self.flops_per_token
        return model / (model + float(counts.sum()) * muon * shape.depth)

    def tokens_per_second(self, seconds: dict[int, float]) -> float:
        """Over the whole tree, with `seconds` a step by batch size, interpolated between them."""
        sizes, counts = np.array(self.steps).T
        return float((sizes * counts).sum() / (np.interp(sizes, list(seconds), list(seconds.values())) @ counts))


def mixes(settings: LanguageModel, tokens: Path) -> dict[int, Mix]:
    """The study's tree of every width, in the order of the widths; trees of further seeds are the same."""
    corpus = open_corpus(tokens)
    specs = plan(settings, CorpusFacts(corpus.digest, corpus.vocab_size, len(corpus.train)))
    found: dict[int, Counter] = {}
    recipes = {}
    for spec in (spec for spec in specs if spec.seed == settings.seed):
        recipe, size = recipe_of(spec), size_from(spec.settings)
        recipes[size.width] = (recipe, size)
        now = recipe.course.end - round(spec.flops / size.flops_per_token)
        while now < recipe.course.end:
            step = batch_tokens(recipe.batch, recipe.shape.context, min(now, recipe.course.fork))
            found.setdefault(size.width, Counter())[step] += 1
            now += step
    return {
        width: Mix(recipe, size.N_non_embedding, size.flops_per_token, tuple(sorted(found[width].items())))
        for width, (recipe, size) in sorted(recipes.items())
    }


def _join(barrier: Barrier) -> None:
    """Called once in a process: `barrier` is where the processes wait for each other."""
    _together.append(barrier)


def _work(settings: LanguageModel, train: Train, tokens: Path, num_rounds: int) -> list[tuple[float, dict]]:
    """What one of the processes found: peak FLOP/s, and seconds a step by width and batch, of each round."""
    (barrier,) = _together
    device, corpus = prepare_device(), open_corpus(tokens)
    data = trainer.Data(corpus.train, corpus.validation, corpus.token_bytes, corpus.validation_documents)
    trees, found = mixes(settings, tokens), []
    lengths: dict[tuple[int, int], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        own = str(Path(folder) / "checkpoint.safetensors")
        for round_number in range(num_rounds + 1):
            barrier.wait()
            peak, seconds = _product(device), {}
            for width, tree in trees.items():
                for batch in tree.batches:
                    barrier.wait()
                    short = _train(tree, batch, SHORT_STEPS, own, data, device, train)
                    # The first round warms up; from its times follows how many steps a measurement has.
                    steps = lengths.get((width, batch), 4 * SHORT_STEPS)
                    barrier.wait()
                    long = _train(tree, batch, SHORT_STEPS + steps, own, data, device, train)
                    seconds[width, batch] = (long - short) / steps
                    lengths[width, batch] = max(8, math.ceil(SECONDS / max(seconds[width, batch], 1e-4)))
            barrier.wait()
            peak = (peak + _product(device)) / 2
            if round_number:
                found.append((peak, seconds))
    return found


def _train(
    tree: Mix, batch: int, steps: int, own: str, data: trainer.Data, device: torch.device, train: Train
) -> float:
    """Seconds of a whole run of so many steps on `batch` tokens each."""
    Path(own).unlink(missing_ok=True)
    end = batch * steps
    course = Course("constant", tree.recipe.course.warmup, end, end)
    fixed = Batch(tokens=batch, growth_power=0.0)
    recipe = replace(tree.recipe, batch=fixed, course=course, evaluation=None)
    places = trainer.Places(None, own, train.checkpoint_seconds, train.micro_batch_tokens)
    began = perf_counter()
    for _ in trainer.train(recipe, data, places, device):
        pass
    return perf_counter() - began


def _product(device: torch.device) -> float:
    """FLOP/s of a large matrix product on `device`, by the fastest library."""
    size, ways = products(device)
    return max(2 * size**3 / _pace(way, SECONDS / len(ways)) for way in ways)


def _pace(multiply: Callable[[], float], seconds: float) -> float:
    """Seconds a product, on average over about so many seconds."""
    float(multiply())
    began, count = perf_counter(), 0
    while perf_counter() - began < seconds:
        for _ in range(4):
            multiply()
        float(multiply())
        count += 5
    return (perf_counter() - began) / count


def measure_training(root: Path = Path(), num_rounds: int = NUM_ROUNDS) -> dict:
    """`gemm_fraction` (None without a size that is large enough) and the table by width; medians over rounds."""
    params, tokens = read_params(root / "params.yaml"), (root / "data/tokens").resolve()
    cuda, spawn = torch.cuda.is_available(), multiprocessing.get_context("spawn")
    num_processes = 1 if cuda else num_cores()
    barrier = spawn.Barrier(num_processes, timeout=LONGEST)
    with ProcessPoolExecutor(num_processes, mp_context=spawn, initializer=_join, initargs=(barrier,)) as pool:
        asked = (params.language_model, params.train, tokens, num_rounds)
        found = [future.result() for future in [pool.submit(_work, *asked) for _ in range(num_processes)]]
    peaks = [sum(rounds[number][0] for rounds in found) / num_processes for number in range(num_rounds)]
    table = []
    for width, tree in mixes(params.language_model, tokens).items():
        speeds = []
        for number in range(num_rounds):
            each = [{batch: rounds[number][1][width, batch] for batch in tree.batches} for rounds in found]
            speeds.append(sum(map(tree.tokens_per_second, each)) / num_processes)
        fractions = [speed * tree.flops_per_token / peak for speed, peak in zip(speeds, peaks, strict=True)]
        table.append(
            {
                "width": width,
                "N_non_embedding": tree.N,
                "tokens_per_second": median(speeds),
                "model_flops_per_second": median(speeds) * tree.flops_per_token,
                "fraction_of_product": median(fractions),
                "with_newton_schulz": median(fractions) / tree.model_share,
                "bound": tree.model_share,
                "fractions": spread(fractions),
            }
        )
    large = [row["fraction_of_product"] for row in table if row["N_non_embedding"] >= LARGE]
    return {
        "gemm_fraction": min(large, default=None),
        "device": torch.cuda.get_device_name() if cuda else "cpu, one thread a process",
        "num_processes": num_processes,
        "product_flops_per_second": spread(peaks),
        "sizes": table,
    }


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS)
    print(json.dumps(rounded(measure_training(num_rounds=parser.parse_args().rounds)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
