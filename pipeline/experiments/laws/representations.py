"""Networks of different architectures that learn one task represent it alike, the more so the wider they are.

Two networks are compared by what their last hidden layers make of the same m inputs: by centred kernel alignment,

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),    HSIC estimated without bias,

and by mutual neighbours, the share of an input's k nearest that both have. Both put trained > untrained > on another
task > at random. Kernels of random networks of w units differ by noise of a variance ~ 1 / w: (1 - CKA) / CKA ~ 1 / w.

Source: Kornblith et al. 2019, arXiv 1905.00414 (CKA); Song et al. 2012, JMLR 13 (unbiased HSIC); Huh et al. 2024, arXiv
2405.07987 (mutual neighbours, growth with scale). The slope in w and the mean at random are derived here.

Regime. Controls known before a comparison: the task, the width, m. Paired at random, the plain estimate has exactly the
mean sqrt(d_K d_L) / (m - 1), with d = tr(K)^2 / tr(K^2) of the centred kernel, the directions that it spans; m inputs
show d m / (d + m) of them. So it calls unrelated networks alike by more than a level up to m = d (1 / level - 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from itertools import combinations, pairwise, permutations
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveInt, model_validator

from pipeline.experiments.experiment import Finding, Judgement, Regime, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials, Seeds, law_run, one_thread, result, torch
from pipeline.experiments.sweep import crossing, local_slopes, mean_over_seeds, slope_over_seeds
from pipeline.experiments.verdict import Claim, Estimate, over_seeds
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.numbers import significant
from pipeline.reporting.panel import panel

TITLE = "Universal representations"
KORNBLITH, HUH, HERE = "Kornblith et al. 2019, arXiv 1905.00414", "Huh et al. 2024, arXiv 2405.07987", "derived here"
ORDER = {"trained": "trained", "initial": "untrained", "other": "on another task", "null": "at random"}
ARCHITECTURES = (("relu", 2, 1.0), ("tanh", 3, 1.0), ("gelu", 2, 0.5))
LEVEL, TEACHER, BATCH, RATE, DRAWS, COPIES = 0.1, 50, 256, 3e-3, 40, 8
"""Misleading alignment; units of a task's network; samples a step; Adam's rate; random pairings; untrained copies."""


class Settings(Dials):
    """Dials: Gaussian `num_inputs`, `num_classes` of a task; `width` of the architectures; `widths` of networks that
    differ by their seed alone; `num_steps` of training; `held_out` inputs; `neighbours` k; `samples`, values of m."""

    seeds: Seeds
    num_inputs: PositiveInt
    num_classes: Annotated[int, Field(ge=2)]
    width: Annotated[int, Field(ge=2)]
    widths: Annotated[list[PositiveInt], Field(min_length=3)]
    num_steps: PositiveInt
    held_out: PositiveInt
    neighbours: PositiveInt
    samples: Annotated[list[Annotated[int, Field(ge=10)]], Field(min_length=2)]

    @model_validator(mode="after")
    def _enough_inputs(self) -> Settings:
        if self.held_out < 2 * max(*self.samples, self.neighbours):
            raise ValueError(f"held_out: {self.held_out} is not twice the largest of neighbours and samples")
        return self


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """For each seed a comparison of three architectures, and for each width one of networks of one architecture."""
    fixed = settings.model_dump(exclude={"on", "seeds", "width", "widths"})
    points = [("architectures", settings.width, 9e-3), *(("widths", w, 1e-3 + w**2 * 5e-8) for w in settings.widths)]
    return [
        law_run("representations", kind, fixed | {"compare": kind, "width": width}, seed,
                label=f"{kind} {width} seed {seed}", seconds=settings.num_steps * cost)
        for kind, width, cost in points for seed in settings.seeds
    ]  # fmt: skip


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """Of architectures, mean CKA and mutual neighbours over pairs (`trained`, `trained_near` and so on; in training the
    curve), `dimension`, CKA at random (`plain_<m>`, `unbiased_<m>`); of a width, CKA of `trained`, `initial` nets."""
    one_thread()
    setup, random = spec.settings, torch.Generator().manual_seed(spec.seed)
    inputs, last = torch.randn(setup["held_out"], setup["num_inputs"], generator=random), setup["num_steps"]
    tasks = [teacher(setup["num_inputs"], setup["num_classes"], random) for _ in range(2)]
    if setup["compare"] == "architectures":
        yield _architectures(setup, inputs, tasks, random, np.random.default_rng(spec.seed))
        return
    start = [kernels(setup, ARCHITECTURES[0], inputs, tasks[0], random, [0])[0] for _ in range(COPIES)]
    end = [kernels(setup, ARCHITECTURES[0], inputs, tasks[0], random, [last])[last] for _ in range(2)]
    yield result({"trained": cka(*end), "initial": np.mean([cka(*pair) for pair in combinations(start, 2)])})


def _architectures(setup: dict, inputs: torch.Tensor, tasks: list, random: torch.Generator, draws) -> RunResult:
    steps = sorted({0, *(setup["num_steps"] >> halvings for halvings in range(6))})
    known, others = ([kernels(setup, shape, inputs, task, random, steps) for shape in ARCHITECTURES] for task in tasks)
    last, order = steps[-1], draws.permutation(len(inputs))

    def alike(pairs):
        return np.mean([(cka(K, L), shared(K, L, setup["neighbours"])) for K, L in pairs], axis=0)

    along = np.array([alike((one[step], two[step]) for one, two in combinations(known, 2)) for step in steps])
    other = alike((known[one][last], others[two][last]) for one, two in permutations(range(len(known)), 2))
    null = alike((one[last], two[last][np.ix_(order, order)]) for one, two in combinations(known, 2))
    scalars, K, L = {}, known[0][last], known[1][last]
    for name, both in zip(("trained", "initial", "other", "null"), (along[-1], along[0], other, null), strict=True):
        scalars |= {name: both[0], f"{name}_near": both[1]}
    for m in setup["samples"]:
        halves = (draws.permutation(len(inputs))[: 2 * m].reshape(2, m) for _ in range(DRAWS))
        chosen = [(K[np.ix_(one, one)], L[np.ix_(two, two)]) for one, two in halves]
        scalars[f"plain_{m}"] = np.mean([cka(*pair, plain_hsic) for pair in chosen])
        scalars[f"unbiased_{m}"] = np.nanmean([cka(*pair) for pair in chosen])
    scalars["dimension"] = math.sqrt(dimension(K) * dimension(L))
    return result(scalars, {"step": steps, "alike": along[:, 0], "near": along[:, 1]})


def teacher(num_inputs: int, num_classes: int, random: torch.Generator):
    """A task: x -> class, by a random network of one hidden layer."""
    first = torch.randn(num_inputs, TEACHER, generator=random) / math.sqrt(num_inputs)
    last = torch.randn(TEACHER, num_classes, generator=random)
    return lambda x: (torch.tanh(x @ first) @ last).argmax(1)


def kernels(setup: dict, shape: tuple, inputs: torch.Tensor, task, random: torch.Generator, kept: list[int]) -> dict:
    """Step -> K, the inner products of the last hidden layer over `inputs`, of a new network trained on the task."""
    activation, num_hidden, share = shape
    function, gain = getattr(torch.nn.functional, activation), 1.0 if activation == "tanh" else 2.0
    sizes = [setup["num_inputs"], *[round(share * setup["width"])] * num_hidden, setup["num_classes"]]
    weights = [torch.randn(size, generator=random) * math.sqrt(gain / size[0]) for size in pairwise(sizes)]
    optimiser, found = torch.optim.Adam([layer.requires_grad_() for layer in weights], RATE, fused=True), {}

    def hidden(x):
        return reduce(lambda active, layer: function(active @ layer), weights[:-1], x)

    for step in range(max(kept) + 1):
        if step in kept:
            features = hidden(inputs).detach().double()
            found[step] = (features @ features.T).numpy()
        if step < max(kept):
            x = torch.randn(BATCH, setup["num_inputs"], generator=random)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(hidden(x) @ weights[-1], task(x)).backward()
            optimiser.step()
    return found


def hsic(K: np.ndarray, L: np.ndarray) -> float:
    """The unbiased estimate of HSIC from m > 3 inputs: the mean of K_ij (L_ij + L_kl - 2 L_ik) over distinct inputs."""
    m, k, l = len(K), K.sum(axis=0) - np.diag(K), L.sum(axis=0) - np.diag(L)
    total = np.vdot(K, L) - np.diag(K) @ np.diag(L) + k.sum() * l.sum() / ((m - 1) * (m - 2)) - 2 * k @ l / (m - 2)
    return float(total / (m * (m - 3)))


def plain_hsic(K: np.ndarray, L: np.ndarray) -> float:
    """tr(K H L H) / (m - 1)^2 with H = 1 - 1/m, the estimate by centred kernels; its bias is of the order 1 / m."""
    return float(np.vdot(K - K.mean(axis=0), L - L.mean(axis=1)[:, None])) / (len(K) - 1) ** 2


def at_random(dim: float, m: int) -> float:
    """The mean plain CKA of m inputs paired at random, of representations that span `dim` directions."""
    return dim * m / ((dim + m) * (m - 1))


def cka(K: np.ndarray, L: np.ndarray, estimate=hsic) -> float:
    """Centred kernel alignment by an estimate of HSIC; NaN where the unbiased one finds a negative norm."""
    size = estimate(K, K) * estimate(L, L)
    return estimate(K, L) / math.sqrt(size) if size > 0 else math.nan


def dimension(K: np.ndarray) -> float:
    """The number of directions that are spanned: tr(C)^2 / tr(C^2) of the covariance C, without bias in tr(C^2)."""
    return float(((np.trace(K) - K.sum() / len(K)) / (len(K) - 1)) ** 2 / hsic(K, K))


def shared(K: np.ndarray, L: np.ndarray, k: int) -> float:
    """Mutual neighbours: the share of an input's k nearest others that both representations have, its mean."""
    apart = (np.where(np.eye(len(K), dtype=bool), np.inf, np.diag(kernel) - 2 * kernel) for kernel in (K, L))
    one, two = (np.argpartition(own, k - 1, axis=1)[:, :k] for own in apart)
    return float((one[:, :, None] == two[:, None]).sum() / (k * len(K)))


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """The order of the comparisons, another task alone, the growth with width, and what the estimates see at random."""
    alike, wide = (runs.filter(pl.col("kind") == kind) for kind in ("architectures", "widths"))
    wide = wide.with_columns(pl.col("trained", "initial").pow(-1) - 1)
    widths = mean_over_seeds(wide, "width", "trained", "initial")
    training, known = mean_over_seeds(curves.drop_nulls("alike"), "step", "alike", "near"), widths.drop_nulls("trained")
    (lower, upper), mean, dim = local_slopes(*known["width", "trained"]), training["alike"], alike["dimension"].mean()
    rows = [(m, alike[f"plain_{m}"].mean(), alike[f"unbiased_{m}"].mean(), at_random(dim, m)) for m in settings.samples]
    null = pl.DataFrame(rows, ["m", "plain", "unbiased", "predicted"], orient="row").sort("m")
    says = [f"In training CKA goes from {mean[0]:.2f} over {mean.min():.2f}, step {training['step'][mean.arg_min()]}, "
            f"to {mean[-1]:.2f}; then (1 - CKA) / CKA goes as w^{lower:.2f} for narrow and w^{upper:.2f} for wide "
            "networks."]  # fmt: skip
    tables = {"training": training, "widths": widths, "null": null}
    return Judgement([*_order(alike), *_width(wide, known), *_null(alike, null, dim)], {"says": says}, tables)


def _claim(law: str, formula: str, figure: str, source: str = HERE, role: str = "law", unit: str = "") -> Claim:
    return Claim(law, formula, source, unit, role=role, figure=f"representations_{figure}")


def _order(alike: pl.DataFrame) -> list[Finding]:
    found = []
    for law, end, source in (("order of CKA", "", KORNBLITH), ("order of mutual neighbours", "_near", HUH)):
        means = {words: over_seeds(alike[name + end]) for name, words in ORDER.items()}
        apart = [Estimate(a.value - b.value, a.error + b.error, b.num) for a, b in pairwise(means.values())]
        closest = min(apart, key=lambda one: one.value - one.reach)
        says = ", ".join(f"{mean.value:z.2f} +- {mean.reach:.2f} {words}" for words, mean in means.items())
        claim = _claim(law, " > ".join(ORDER.values()), "training", source)
        found.append(claim.at_least(closest, 0, f"Architectures agree by {says}."))
    gain = over_seeds(alike["other"] - alike["initial"])
    control = _claim("training makes alike: two tasks", "trained > untrained", "training", KORNBLITH, "control")
    return [*found, control.at_least(gain, 0, f"Training on two tasks changes CKA by {significant(gain.value)}.")]


def _width(wide: pl.DataFrame, known: pl.DataFrame) -> list[Finding]:
    slope, bare = slope_over_seeds(wide, "width", "initial"), wide.drop_nulls("initial")
    rho = Estimate(known.select(pl.corr("width", "trained", method="spearman")).item())
    held, bare = ([Regime("width", "units", own["width"].min(), own["width"].max())] for own in (known, bare))
    grows = _claim("alignment grows with width", "rank correlation of w and 1 - CKA", "width", HUH)
    noise = _claim("alignment of untrained networks", "(1 - CKA) / CKA ~ 1 / w", "width", unit="slope")
    says = f"Untrained, (1 - CKA) / CKA goes as w^{significant(slope.value)}."
    rank = "not defined: CKA does not vary" if rho.value is None else f"{rho.value:.2g}"
    ranks = f"Of trained networks the rank correlation of the width and 1 - CKA is {rank}."
    return [grows.equals(rho, -1, 0.01, ranks, held), noise.equals(slope, -1, 0.1, says, bare)]


def _null(alike: pl.DataFrame, null: pl.DataFrame, dim: float) -> list[Finding]:
    (place, bracket), predicted, m = crossing(null["m"], null["plain"], LEVEL), dim * (1 / LEVEL - 1), null["m"][0]
    says = f"At random plain CKA is {LEVEL:g} at m = {significant(place)}; predicted {predicted:.3g}, d = {dim:.3g}."
    held = [Regime("m", "inputs", bracket and bracket[1], None, bracket and bracket[0], predicted)]
    edge = _claim("plain CKA at random", "m = d (1 / level - 1)", "null", HERE, "boundary", "inputs")
    plain, unbiased = (over_seeds(alike[f"{name}_{m}"]) for name in ("plain", "unbiased"))
    few = f"Of {m} inputs paired at random the mean plain CKA is {plain.value:.2f}, the unbiased {unbiased.value:.3f}."
    control = _claim("plain CKA of few inputs at random", "0", "null", KORNBLITH, "control")
    return [edge.located([place], bracket, predicted, 1.2, says, held), control.at_most(plain, LEVEL, few)]


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """Alignment in training, against the width, and at random."""
    return [
        panel("representations_training", "Architectures grow alike", "Means over pairs.", tables["training"], "step",
              {"alike": "CKA", "near": "mutual neighbours"}, x_label="step", y_label="alignment", logs=""),
        panel("representations_width", "Wider networks are more alike", "One architecture.", tables["widths"],
              "width", {"trained": "trained", "initial": "untrained"}, x_label="width w", y_label="(1 - CKA) / CKA"),
        panel("representations_null", "Inputs paired at random", "Dots: mean CKA; line: d m / ((d + m) (m - 1)).",
              tables["null"], "m", {"plain": "plain", "unbiased": "unbiased"}, theory="predicted", x_label="inputs m",
              y_label="CKA", logs="x", horizontal={"level": LEVEL}),
    ]  # fmt: skip
