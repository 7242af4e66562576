"""At the end of training the features of a class fall together, and the classes form the corners of a simplex.

Four signs: the scatter of features within a class vanishes against that between classes (NC1); the centred class means
grow equally long, each pair at cos = -1 / (K - 1) (NC2); the rows of the last layer align with them (NC3); the network
names the class whose mean is nearest (NC4). Where the features H are free variables this is exact: for K classes of n
examples the minimum of loss(W H + b) + lW |W|^2 / 2 + lH |H|^2 / 2 gives W H K - 1 equal singular values s sqrt(n),

    s = ln(1 + K (1 / r - 1)) for cross-entropy,    s = 1 - r for squared error / 2,    r = K sqrt(n lW lH).

Source: Papyan, Han and Donoho 2020, arXiv 2008.08186; free features: Zhu et al. 2021, arXiv 2105.02375; r and s are
derived here, from the nuclear norm of W H to which the two penalties add up.

Regime. Free features: r < 1 (beyond, all is zero) and d >= K - 1 dimensions; squared error also needs the bias b, else
the means are orthogonal. Networks: all examples learned, and a weight decay that is neither absent nor overwhelming.
Outside lie many classes with cross-entropy and decay of several layers: in deep models of free features lower rank then
costs less than the simplex (arXiv 2405.14468, 2410.23169).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from pipeline.experiments.experiment import Judgement, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials, Seeds, law_run, one_thread, result, torch
from pipeline.experiments.laws.neural_collapse.findings import collapses, of_free_features
from pipeline.experiments.sweep import mean_over_seeds
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.panel import panel

TITLE = "Neural collapse"
NAME, CE, SQUARED = "neural_collapse", "cross_entropy", "squared_error"
Classes = Annotated[int, Field(ge=3)]
Shape = Annotated[tuple[Classes, PositiveInt, PositiveInt, PositiveFloat], Field(strict=False)]
Network = Annotated[tuple[Classes, Literal["cross_entropy", "squared_error"], NonNegativeFloat], Field(strict=False)]


class Settings(Dials):
    """Dials: `shapes` of free features are [K, n, d, lW / lH]; `ratios` values of r; `dimensions` d of the first shape,
    at r = 1 / 2. `networks` that should collapse, and those `outside` the regime, are [K, loss, weight decay]."""

    seeds: Seeds
    shapes: Annotated[list[Shape], Field(min_length=1)]
    ratios: Annotated[list[PositiveFloat], Field(min_length=3)]
    dimensions: Annotated[list[PositiveInt], Field(min_length=2)]
    networks: Annotated[list[Network], Field(min_length=1)]
    outside: Annotated[list[Network], Field(min_length=1, max_length=3)]
    epochs: Annotated[int, Field(ge=100)]

    @model_validator(mode="after")
    def _room(self) -> Settings:
        below, above = any(0.98 <= r < 1 for r in self.ratios), any(1 < r <= 1.02 for r in self.ratios)
        if not (below and above and min(self.ratios) <= 0.95):
            raise ValueError(f"ratios: {self.ratios} must enclose 1 within 2 % and reach down to 0.95 or less")
        if not min(self.dimensions) < self.shapes[0][0] - 1 <= max(self.dimensions):
            raise ValueError(f"dimensions: {self.dimensions} must enclose K - 1 = {self.shapes[0][0] - 1}")
        if any(d < K - 1 for K, _, d, _ in self.shapes):
            raise ValueError("shapes: fewer than K - 1 dimensions hold no simplex; sweep them with dimensions")
        return self


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """For each seed a run a shape and loss through all ratios, one a loss through all dimensions, one a network."""
    K, n, _, share = settings.shapes[0]
    points = [("ratio", {"loss": loss, "problems": [[*shape, r, 1] for r in settings.ratios]})
              for shape in settings.shapes for loss in (CE, SQUARED)]  # fmt: skip
    for kind, loss, bias in (("with_bias", CE, 1), ("with_bias", SQUARED, 1), ("no_bias", SQUARED, 0)):
        points.append((kind, {"loss": loss, "problems": [[K, n, d, share, 0.5, bias] for d in settings.dimensions]}))
    points += [(kind, {"num_classes": classes, "loss": loss, "decay": decay, "epochs": settings.epochs})
               for kind, several in (("network", settings.networks), ("outside", settings.outside))
               for classes, loss, decay in several]  # fmt: skip
    return [law_run(NAME, kind, point, seed, label=f"{kind} {point['loss']} seed {seed}", seconds=1.0)
            for kind, point in points for seed in settings.seeds]  # fmt: skip


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """Free features: a row of the curve a problem. A network: the signs of collapse in training, and as scalars those
    where it first names every example right (`first_*`) and those at the end (`last_*`)."""
    if "problems" in spec.settings:
        problems, loss, scalars = spec.settings["problems"], spec.settings["loss"], {}
        rows = [{"step": step} | solve(problem, loss, spec.seed) for step, problem in enumerate(problems)]
    else:
        rows, first = train(spec.settings, spec.seed)
        scalars = {f"first_{name}": value for name, value in first.items()}
        scalars |= {f"last_{name}": value for name, value in rows[-1].items()}
    yield result(scalars, {name: [row[name] for row in rows] for name in rows[0]})


def solve(problem: list, loss: str, seed: int) -> dict[str, float]:
    """The minimum for free features, from a random start: its strength s, the `error` of s, the signs of collapse."""
    (K, n, d, share, ratio, _), random = problem, np.random.default_rng(seed)
    start = [random.normal(size=K * d) * share**-0.25, random.normal(size=d * n * K) * share**0.25, np.zeros(K)]
    best = minimize(objective, 0.3 * np.concatenate(start), (problem, loss), "L-BFGS-B", jac=True,
                    options={"maxiter": 20000, "maxfun": 40000, "ftol": 0.0, "gtol": 1e-11, "maxcor": 20})  # fmt: skip
    W, H, b = best.x[: K * d].reshape(K, d), best.x[K * d : -K].reshape(d, -1), best.x[-K:]
    values, inside = np.linalg.svd(W @ H, compute_uv=False)[: K - 1] / np.sqrt(n), min(ratio, 1.0)
    theory = 1 - inside if loss == SQUARED else np.log1p(K * (1 / inside - 1))
    known = {"classes": K, "dimension": d, "ratio": ratio, "strength": values.mean(), "theory": theory,
             "error": np.abs(values - theory).max() / (theory or 1)}  # fmt: skip
    return known | collapse(H.T.reshape(K, n, d), W, b, centred=False)


def objective(flat: np.ndarray, problem: list, loss: str) -> tuple[float, np.ndarray]:
    """(mean loss + penalties, gradient) at W, H and b joined in one vector; the gradient of an absent bias is zero."""
    K, n, d, share, ratio, bias = problem
    W, H, b = flat[: K * d].reshape(K, d), flat[K * d : -K].reshape(d, -1), flat[-K:]
    lW, lH = ratio / (K * np.sqrt(n)) * share ** np.array([0.5, -0.5])
    labels, logits = np.repeat(np.eye(K), n, axis=1), W @ H + b[:, None]
    error = (softmax(logits, axis=0) if loss == CE else logits) - labels
    value = -(labels * log_softmax(logits, axis=0)).sum() if loss == CE else (error**2).sum() / 2
    value, error = value / (K * n) + lW / 2 * (W**2).sum() + lH / 2 * (H**2).sum(), error / (K * n)
    return value, np.concatenate([(error @ H.T + lW * W).ravel(), (W.T @ error + lH * H).ravel(), error.sum(1) * bias])


def collapse(features: np.ndarray, W: np.ndarray, b: np.ndarray, centred: bool = True) -> dict[str, float]:
    """Signs of collapse of features (K, n, d) with class means M: NC1 tr(S_W S_B^+) / K; `cos` and `cos_off`, means of
    cos and |cos + 1 / (K - 1)|; NC3 |W / |W| - M / |M||; NC4, how often nearest mean and network differ; `weakest`, the
    (K - 1)th singular value of M over the first; `right`, the share named right, the only one where M vanishes."""
    K, n, d = features.shape
    means, named = features.mean(axis=1), (features @ W.T + b).argmax(axis=2)
    M, inner = means - means.mean(axis=0) * centred, (features - means[:, None]).reshape(-1, d)
    right, lengths = (named == np.arange(K)[:, None]).mean(), np.linalg.norm(M, axis=1, keepdims=True)
    if lengths.min() < 1e-9:
        return dict.fromkeys(("nc1", "cos", "cos_off", "nc3", "nc4", "weakest"), np.nan) | {"right": right}
    cos, values = ((M / lengths) @ (M / lengths).T)[~np.eye(K, dtype=bool)], np.linalg.svd(M, compute_uv=False)
    nearest = ((features[:, :, None] - means) ** 2).sum(axis=3).argmin(axis=2)
    nc1 = np.trace(inner.T @ inner / (K * n) @ np.linalg.pinv(M.T @ M / K, rcond=1e-6)) / K
    nc3, nc4 = np.linalg.norm(W / np.linalg.norm(W) - M / np.linalg.norm(M)), (nearest != named).mean()
    return {"nc1": nc1, "cos": cos.mean(), "cos_off": np.abs(cos + 1 / (K - 1)).mean(), "nc3": nc3, "nc4": nc4,
            "weakest": values[min(K, d + 1) - 2] / values[0], "right": right}  # fmt: skip


def train(setup: dict, seed: int) -> tuple[list[dict], dict]:
    """(signs at some forty epochs, those at the first with all examples right or {}) of a network on Gaussian blobs."""
    one_thread()
    torch.manual_seed(seed)
    K, loss, decay, epochs = (setup[name] for name in ("num_classes", "loss", "decay", "epochs"))
    labels, linear, relu = torch.arange(K).repeat_interleave(25), torch.nn.Linear, torch.nn.ReLU()
    targets, examples = torch.eye(K)[labels], torch.randn(K, 128)[labels] + 0.7 * torch.randn(25 * K, 128)
    body = torch.nn.Sequential(linear(128, 128), relu, linear(128, 128), relu, linear(128, 64), relu)
    net = torch.nn.Sequential(body, linear(64, K))
    descent = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, epochs)
    kept, history, first = {0, *np.geomspace(1, epochs, 40).astype(int)}, [], {}
    for epoch in range(epochs + 1):
        features = net[0](examples)
        logits = net[1](features)
        learned = not first and bool((logits.argmax(1) == labels).all())
        if learned or epoch in kept:
            arrays = (part.detach().double().numpy() for part in (features.view(K, 25, 64), net[1].weight, net[1].bias))
            history.append({"step": epoch} | collapse(*arrays))
            first = history[-1] if learned else first
        squared = (logits - targets).square().sum(1).mean() / 2
        cost = squared if loss == SQUARED else torch.nn.functional.cross_entropy(logits, labels)
        descent.zero_grad()
        cost.backward()
        descent.step()
        schedule.step()
    return history, first


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """Free features: strength and simplex, and the ends in r and d. Networks: collapse, and what lies outside."""
    rows, needed = curves.join(runs.select("run_id", "kind", "loss"), on="run_id"), settings.shapes[0][0] - 1
    free = rows.filter(kind="ratio").select("run_id", "loss", "classes", "ratio", "strength", "theory", "error", "nc1",
                                            "cos_off", "nc3").sort("loss", "classes", "run_id", "ratio")  # fmt: skip
    by, sides = ["loss", "kind", "dimension"], pl.col("kind").is_in(["with_bias", "no_bias"])
    room = mean_over_seeds(rows.filter(sides), by, "cos_off", "cos")
    findings, nets = of_free_features(free, room, needed), _margins(runs)
    outside = nets.filter(kind="outside").group_by("network", maintain_order=True)
    findings += [collapses(nets.filter(kind="network"), "networks collapse", "law"),
                 *(collapses(own, f"outside: {name}", "control") for (name,), own in outside)]  # fmt: skip
    kept = nets.filter(right=1.0).group_by("network", maintain_order=True).agg(pl.col("weakest").mean()).iter_rows()
    shares = "; ".join(f"{weakest:.2f} with {name}" for name, weakest in kept)
    says = [f"The weakest of K - 1 directions of the class means, over the strongest, ends at {shares}. Lost ones "
            "would agree with arXiv 2405.14468 and 2410.23169; that low rank is the cause is not shown."]  # fmt: skip
    return Judgement(findings, {"says": says, "needed": needed}, {"free": free, "room": room, "networks": nets})


def _margins(runs: pl.DataFrame) -> pl.DataFrame:
    """How far each sign falls from the first epoch with all examples right; `margin`, the least fall over that asked:
    NC1 2-fold (squared error 3), NC2 2-fold and to 0.05, NC3 3-fold, NC4 to 0; null if not all are right at the end."""
    names = [f"{when}_{name}" for when in ("first", "last") for name in ("nc1", "cos_off", "nc3", "nc4", "weakest")]
    blank = pl.DataFrame(schema=dict.fromkeys(names, pl.Float64))
    known = pl.concat([blank, runs.drop_nulls("epochs")], how="diagonal").sort("num_classes", "loss", "decay", "seed")
    nc1, nc2, nc3 = (pl.col(f"first_{name}") / pl.col(f"last_{name}") for name in ("nc1", "cos_off", "nc3"))
    least = pl.min_horizontal(nc1 / pl.when(loss=SQUARED).then(3).otherwise(2), nc2 / 2, 0.05 / pl.col("last_cos_off"),
                              nc3 / 3) * (pl.col("last_nc4") == 0)  # fmt: skip
    return known.select(
        "run_id", "kind", "seed", network=pl.format("K = {}, {}, decay {}", "num_classes", "loss", "decay"),
        nc1_fall=nc1, nc2_fall=nc2, nc3_fall=nc3, nc2_last="last_cos_off", right="last_right", weakest="last_weakest",
        margin=pl.when(last_right=1.0).then(least),
    )  # fmt: skip


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """Strength against r, room against d, and the networks in training."""
    sort = pl.when(loss=CE).then(pl.format("cross-entropy, K = {}", "classes")).otherwise(pl.lit("squared error"))
    free = tables["free"].group_by("ratio", loss=sort).agg(pl.col("strength", "theory").mean()).sort("loss", "ratio")
    room = tables["room"].with_columns(loss=pl.concat_str("loss", "kind", separator=", "))
    shown = tables["networks"].filter(seed=tables["networks"]["seed"].min()).select("run_id", "network")
    paths = curves.join(shown, on="run_id").filter(pl.col("step") > 0).select("network", "step", "nc1", "cos_off")
    return [
        panel(f"{NAME}_strength", "Free features", "Dots: measured; lines: theory.", free, "ratio", "strength",
              theory="theory", by="loss", x_label="r = K sqrt(n lW lH)", y_label="s", logs="", vertical={"r = 1": 1.0}),
        panel(f"{NAME}_space", "Room for a simplex", "Distance of class means from it.", room, "dimension", "cos_off",
              x_label="d", y_label="|cos + 1/(K - 1)|", by="loss", logs="y", vertical={"K - 1": summary["needed"]}),
        *(panel(f"{NAME}_{name}", "Networks in training", f"{words}, one seed.", paths.sort("network", "step"), "step",
                name, by="network", x_label="epoch", y_label=label)
          for name, words, label in (("nc1", "Scatter within classes", "NC1, tr(S_W S_B^+) / K"),
                                     ("cos_off", "Angles of class means", "NC2, mean |cos + 1 / (K - 1)|"))),
    ]  # fmt: skip
