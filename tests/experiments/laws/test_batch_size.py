"""Batch size: the recursion and the noise scales against sampled gradients, the network's gradient against autograd,
the estimator of the noise scale against a known covariance, and every verdict that can occur."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from pipeline.corpus.shards import open_corpus
from pipeline.experiments.experiment import RunContext, StudyFacts
from pipeline.experiments.laws.batch_size import judge, plan, run
from pipeline.experiments.laws.batch_size.exact import (
    Exact,
    course,
    hyperbola,
    judge_exact,
    noise_scale,
    plan_exact,
    run_exact,
    step,
)
from pipeline.experiments.laws.batch_size.language_model import (
    NoiseScale,
    gradient_noise,
    judge_noise,
    plan_noise,
    run_noise,
)
from pipeline.experiments.laws.batch_size.network import (
    RANKED,
    Network,
    backward,
    initial,
    judge_network,
    layers,
    plan_network,
    run_network,
    weight_shapes,
)
from pipeline.params import read_params
from pipeline.plain import flatten
from tests.experiments.laws.bench import dials, read_laws, try_law

DIALS, DIALS_OF_STUDY = dials("batch_size"), read_params().language_model
EXACT = DIALS["exact"] | {"num_modes": 50, "examples": 2048, "batches": [1, 4, 16, 64, 256], "target": 0.3}
NETWORK = DIALS["network"] | {"examples": 16384, "width": 32, "factors": [16], "beyond": 64}
NOISE = {"seeds": [0, 1, 2], "width": 16, "tokens": [1000, 3000], "micro_batches": 48}
NEAR = {"rate": 0.1, "factors": [2, 4, 8], "walls": [1.5, 1.75, 1.8, 1.9, 2.1]}
QUICK = {"exact": EXACT, "network": NETWORK, "language_model": NOISE}


@pytest.fixture(scope="module")
def tried(tokens):
    return try_law("batch_size", tokens, **QUICK)


def test_the_recursion_is_the_mean_of_sampled_sgd():
    random, spectrum, noise, rate, batch, num = np.random.default_rng(0), np.array([1.0, 0.5, 0.2]), 0.5, 0.2, 2, 12
    replicas = 40_000
    w = np.ones((replicas, 3))
    for _ in range(num):
        x = random.normal(size=(replicas, batch, 3)) * np.sqrt(spectrum)
        residual = np.einsum("rbi,ri->rb", x, w) + np.sqrt(noise) * random.normal(size=(replicas, batch))
        w = w - rate * np.einsum("rb,rbi->ri", residual, x) / batch
    risks = w**2 @ spectrum
    exact = course(spectrum, np.ones(3), noise, rate, batch, num)[-1]
    assert abs(risks.mean() - exact) < 4 * risks.std() / np.sqrt(replicas)
    assert risks.std() / np.sqrt(replicas) < 0.02 * exact


def test_the_noise_scales_are_those_of_sampled_gradients():
    random, spectrum, noise, away = np.random.default_rng(1), np.array([1.0, 0.4, 0.1]), 0.7, np.array([1.0, -0.5, 2.0])
    x = random.normal(size=(400_000, 3)) * np.sqrt(spectrum)
    gradients = x * (x @ away + np.sqrt(noise) * random.normal(size=len(x)))[:, None]
    G, Sigma, H = gradients.mean(0), np.cov(gradients.T), np.diag(spectrum)
    sampled = np.trace(Sigma) / (G @ G), np.trace(H @ Sigma) / (G @ H @ G), G @ G / (G @ H @ G)
    np.testing.assert_allclose(noise_scale(spectrum, away**2, noise), sampled, rtol=0.02)


def test_the_hyperbola_is_recovered_where_it_is_exact():
    batch = 2.0 ** np.arange(8)
    least, critical, _, rms = hyperbola(batch, 30 * (1 + 20 / batch))
    np.testing.assert_allclose((least, critical), (30, 20), rtol=1e-6)
    assert rms < 1e-8


def critical(tried, steps):
    """The findings on the hyperbola and on B_crit where the steps to the target are these instead."""
    changed = pl.when(pl.col("kind") == "many_steps").then(steps).otherwise(pl.col("steps")).alias("steps")
    found = judge_exact(tried.settings.exact, tried.runs.with_columns(changed))[0]
    return [one for one in found if one.law in ("steps against examples", "critical batch")]


def test_the_hyperbola_is_one_claim_and_its_place_another(tried):
    simple, wave = pl.col("simple_scale"), 1 + 0.3 * (-1) ** pl.col("batch").log(4)
    curve, batch = critical(tried, 30 * (1 + 30 * simple / pl.col("batch")))
    assert (curve.verdict, batch.verdict) == ("holds", "violated")
    assert batch.measured == pytest.approx(30 * batch.predicted)
    assert "30 times B_simple" in batch.statement
    curve, batch = critical(tried, 30 * (1 + simple / pl.col("batch")) * wave)
    assert (curve.verdict, batch.verdict) == ("violated", "not_reached")


def test_the_interval_of_the_critical_batch_is_a_confidence_interval(tried):
    curve, batch = critical(tried, pl.col("steps"))
    assert (curve.verdict, batch.verdict, batch.interval_kind) == ("holds", "holds", "confidence")
    assert batch.interval[0] < batch.measured < batch.interval[1]
    assert batch.interval[1] - batch.measured > 3.18 * batch.error, "Student's t with the 3 degrees of 5 batches"
    assert [part.predicted for part in batch.regime] == [None]


def test_the_gradient_of_the_network_is_that_of_autograd():
    random, shape = np.random.default_rng(2), weight_shapes(5, 7)
    flat = initial(random, shape) + 0.1 * random.normal(size=sum(int(np.prod(one)) for one in shape))
    x, y, found = random.normal(size=(6, 5)), random.normal(size=6), np.empty_like(flat)
    backward(layers(flat, shape), layers(found, shape), x, y)
    leaves = [torch.tensor(part, requires_grad=True) for part in layers(flat, shape)]
    W1, b1, W2, b2, W3, b3 = leaves
    output = torch.tanh(torch.tanh(torch.tensor(x) @ W1 + b1) @ W2 + b2) @ W3 + b3
    (0.5 * (output[:, 0] - torch.tensor(y)) ** 2).mean().backward()
    np.testing.assert_allclose(found, np.concatenate([leaf.grad.numpy().ravel() for leaf in leaves]), rtol=1e-10)


def test_the_estimator_of_the_noise_scale_is_unbiased():
    """Rows N(mean, I) of 5 columns as gradients, in chunks of 3: tr Sigma = 5 a row, |G|^2 = |mean|^2."""
    random, weight, mean = np.random.default_rng(3), torch.zeros(5, requires_grad=True), np.full(5, 0.4)
    found = []
    for _ in range(300):
        rows = torch.tensor(mean + random.normal(size=(24, 5)), dtype=torch.float32)
        found.append(gradient_noise(lambda chunk: (chunk @ weight).mean(), [weight], rows.split(3), 3))
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - (5.0, mean @ mean)) < 4 * error).all()
    assert (error < (0.1, 0.03)).all()


def test_the_laws_hold_and_their_ends_lie_where_predicted(tried):
    verdicts = {one.law: (one.role, one.verdict) for one in tried.judgement.findings}
    assert verdicts.pop("square-root scaling rule, exact SGD") == ("control", "violated")
    assert len(verdicts) == 8
    assert {verdict for law, (_, verdict) in verdicts.items() if "study" not in law} == {"holds"}
    study = tried.judgement.summary["study"]
    assert set(study) == {"inside", "noise_scale", "batch", "sentence"}
    assert study["batch"] == DIALS_OF_STUDY.batch.tokens


@pytest.mark.parametrize(
    ("law", "kind", "column"),
    [
        ("linear scaling rule, exact SGD", "rule", "error"),
        ("square-root scaling rule, exact SGD", "rule", "error"),
        ("best rate of one step", "one_step", "best_rate"),
    ],
)
@pytest.mark.parametrize("unknown", [None, np.nan])
def test_an_error_that_is_not_known_is_no_small_one(tried, law, kind, column, unknown):
    own = (pl.col("kind") == kind) & ((pl.col("factor") == 4) | (pl.col("batch") == 4))
    runs = tried.runs.with_columns(pl.when(own).then(unknown).otherwise(column).alias(column))
    found = {one.law: one for one in judge_exact(tried.settings.exact, runs)[0]}[law]
    assert (found.verdict, found.measured) == ("undetermined", None)


def test_the_range_of_a_small_error_is_not_that_of_the_wall(tried):
    (small,) = tried.finding("linear scaling rule, exact SGD").regime
    (stable,) = tried.finding("end of the linear rule", "boundary").regime
    assert (small.high, small.broke_at, small.predicted) == (0.16, 0.32, None)
    assert (stable.high, stable.broke_at, stable.predicted) == (1.95, 2.05, tried.settings.exact.wall)


def test_a_diverging_rate_breaks_the_linear_rule_and_a_short_course_of_adam_settles_nothing():
    coarse = Network.model_validate(NETWORK | {"examples": 8192, "sgd_rate": 0.1})
    specs = list(plan_network(coarse))
    runs, curves = frames(specs, [run_network(spec) for spec in specs])
    (sgd, adam), _, _ = judge_network(coarse, runs, curves)
    assert (sgd.verdict, adam.verdict) == ("violated", "undetermined")


AWAY = [(0.1, 0.19, 0.3), (0.1, 0.21, 1.5), (0.1, 0.2, 0.3), (0.1, 0.2, 0.8)]
"""How far linear, sqrt and none leave the course, by seed: sqrt - linear is 0.10 +- 0.01, none - sqrt 0.52 +- 0.29."""


@pytest.mark.parametrize(
    ("spoilt", "verdict", "value"),
    [((), "undetermined", 0.525), (("none",), "undetermined", None), (("reference",), "undetermined", None)],
)
def test_a_ranking_is_as_well_known_as_its_least_known_step(spoilt, verdict, value):
    rows = [
        (f"{rule} {seed}", "network", "finished", "sgd", rule, k, seed, np.nan if rule in spoilt else np.exp(log))
        for seed, away in enumerate(AWAY)
        for rule, k, log in (("reference", 1, 0.0), *zip(RANKED["sgd"], (16,) * 3, away, strict=True))
    ]
    columns = ["run_id", "kind", "status", "optimizer", "rule", "factor", "seed", "excess"]
    points = pl.DataFrame(rows, columns, orient="row").with_columns(step=1)
    (sgd, _), *_ = judge_network(Network.model_validate(NETWORK), points.drop("excess"), points)
    assert sgd.verdict == verdict
    assert sgd.measured == (value and pytest.approx(value))


def test_a_noise_scale_is_as_well_known_as_at_its_least_known_place(tried):
    """At one place 3 times the batch to 1 %, at another 20 times, give or take a factor 20."""
    own, scale = tried.runs.filter(kind="language_model"), {1000: (3.0, 3.01, 2.99), 3000: (1.0, 20.0, 400.0)}
    rows = [(own["run_id"][i], step, 64.0 * by, 64.0) for step, times in scale.items() for i, by in enumerate(times)]
    curves = pl.DataFrame(rows, ["run_id", "step", "noise_tokens", "own_batch"], orient="row")
    (found,), told, _, _ = judge_noise(own, curves)
    assert (found.verdict, told["inside"]) == ("undetermined", None)
    assert "After 3,000 tokens" in found.statement


def frames(specs, results):
    """(runs, curves) as the laws are given them, of these results."""
    pairs = list(zip(specs, results, strict=True))
    runs = [
        {"run_id": spec.run_id, "kind": spec.kind, "seed": spec.seed, "status": one.status}
        | flatten(spec.settings)
        | one.scalars
        for spec, one in pairs
    ]
    curves = [pl.DataFrame(one.curve).with_columns(run_id=pl.lit(spec.run_id)) for spec, one in pairs if one.curve]
    return pl.DataFrame(runs, infer_schema_length=None), pl.concat(curves or [pl.DataFrame()])


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_at_the_wall_the_recursion_has_spectral_radius_one(rate):
    spectrum, wall = np.arange(1.0, 51) ** -1.2, Exact.model_validate(EXACT | NEAR | {"rate": rate}).wall
    grown = np.array([step(error, spectrum, 0.0, wall, wall / rate) for error in np.eye(50)]).T
    assert np.abs(np.linalg.eigvals(grown)).max() == pytest.approx(1, abs=1e-8)


def test_a_fast_reference_moves_the_wall_which_is_found_there():
    near = Exact.model_validate(EXACT | NEAR)
    specs = list(plan_exact(near))
    runs, _ = frames(specs, [run_exact(spec) for spec in specs])
    findings = {one.law: one for one in judge_exact(near, runs)[0]}
    found = findings["end of the linear rule"]
    assert found.predicted == pytest.approx(1.7835, abs=1e-4)
    assert (found.verdict, found.interval) == ("holds", (1.75, 1.8))
    assert "At eta k lambda_max = 1.75 the risk ends at" in found.statement


def test_walls_that_are_not_crossed_are_not_reached(tried):
    stable = tried.runs.filter(pl.col("growth").is_null() | (pl.col("growth") < 1))
    findings = {one.law: one for one in judge(tried.settings, stable, tried.curves).findings}
    assert findings["end of the linear rule"].verdict == "not_reached"


def test_a_batch_above_the_noise_scale_is_found(tokens):
    corpus = open_corpus(tokens)
    huge = DIALS_OF_STUDY.model_copy(update={"batch": DIALS_OF_STUDY.batch.model_copy(update={"tokens": 32_768})})
    study = StudyFacts(corpus.digest, corpus.vocab_size, len(corpus.train), huge)
    specs = list(plan_noise(NoiseScale.model_validate(NOISE | {"tokens": [64, 40_000]}), study))
    context = RunContext(str(tokens), None, "", 60.0, 8192)
    runs, curves = frames(specs, [run_noise(spec, context) for spec in specs])
    (finding,), told, _, _ = judge_noise(runs, curves)
    assert (finding.verdict, told["inside"]) == ("violated", False)
    assert told["noise_scale"] < told["batch"]


def test_a_corpus_or_a_head_size_that_does_not_fit_is_refused(tokens):
    study = StudyFacts("", 256, 10_000, DIALS_OF_STUDY)
    with pytest.raises(
        ValueError, match=r"batch_size\.language_model\.width: 40 is not divisible by model\.head_size 16"
    ):
        list(plan_noise(NoiseScale.model_validate(NOISE | {"width": 40}), study))
    with pytest.raises(ValueError, match=r"language_model\.tokens: 9000 and what is measured there are more than"):
        list(plan_noise(NoiseScale.model_validate(NOISE | {"tokens": [1000, 9000]}), study))
    spec, *_ = plan_noise(NoiseScale.model_validate(NOISE), replace(study, train_tokens=10**6))
    with pytest.raises(ValueError, match="is not the planned"):
        run_noise(spec, RunContext(str(tokens), None, "", 60.0, 8192))


def test_the_same_run_gives_the_same_bits(tried, tokens):
    corpus = open_corpus(tokens)
    specs = {one.kind: one for one in plan(tried.settings, StudyFacts(corpus.digest, 256, 10**6, DIALS_OF_STUDY))}
    for kind, spec in specs.items():
        *_, again = run(spec, RunContext(str(tokens), None, "", 60.0, 8192))
        first = tried.runs.row(by_predicate=pl.col("run_id") == spec.run_id, named=True)
        assert {name: first[name] for name in again.scalars} == again.scalars, kind
        curve = tried.curves.filter(pl.col("run_id") == spec.run_id)
        assert all((curve[name].to_numpy() == values).all() for name, values in again.curve.items()), kind
    assert set(specs) == {"rule", "one_step", "many_steps", "network", "language_model"}


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("network", {"seeds": [0, 1, 2]}, r"laws\.batch_size\.network\.seeds: List should have at least 4 items"),
        ("network", {"factors": [32]}, r"laws\.batch_size\.network\.factors: 32 leaves no momentum to Adam"),
        ("network", {"beyond": 8}, r"laws\.batch_size\.network\.beyond: 8 must be above every factor"),
        ("network", {"examples": 1000}, r"laws\.batch_size\.network\.examples: 1000 are not 32 times whole batches"),
        ("exact", {"rate": -0.1}, r"laws\.batch_size\.exact\.rate: .*greater than 0 \(value -0.1\)"),
        (
            "exact",
            {"walls": [1.5, 1.9]},
            r"laws\.batch_size\.exact\.walls: \[1\.5, 1\.9\] must lie on both sides of 1\.98",
        ),
        ("exact", {"factors": [32, 64, 128]}, r"laws\.batch_size\.exact\.factors: eta k must begin below 0\.2"),
        ("exact", {"factors": [2, 4, 199]}, r"laws\.batch_size\.exact\.factors: eta k must end below the wall 1\.98"),
        ("exact", {"examples": 100}, r"laws\.batch_size\.exact\.examples: 100 are fewer than 8 steps"),
        ("language_model", {"tokens": [20, 10]}, r"laws\.batch_size\.language_model\.tokens: \[20, 10\] must increase"),
        ("language_model", {"width": 0}, r"laws\.batch_size\.language_model\.width: .*greater than 0"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, part, changed, message):
    with pytest.raises(ValueError, match=message):
        read_laws(tmp_path, {"batch_size": DIALS | {part: DIALS[part] | changed}})
