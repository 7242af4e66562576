"""Eight solvable models against simulations, sums and equations of their own, and the engine on surfaces it must judge.

References: gradient flow integrated numerically; SGD, kernel and random-feature regression, Zipf samples and Gaussian
fields drawn at random; the spectral radius of a recursion; plain sums over a million modes.
"""

import numpy as np
import polars as pl
import pytest
from scipy.integrate import solve_ivp
from scipy.spatial.distance import cdist
from scipy.special import gamma, kv, zeta

from pipeline.experiments.laws.solvable_scaling import (
    judge,
    kernel_dimension,
    kernel_regression,
    random_features,
    skills,
)
from pipeline.experiments.laws.solvable_scaling.frontier import frontier
from pipeline.experiments.laws.solvable_scaling.gradient_flow import flow_loss, smooth_loss
from pipeline.experiments.laws.solvable_scaling.one_pass_sgd import expected_loss, stability_edge
from pipeline.experiments.laws.solvable_scaling.outcome import Exponent, recovered
from pipeline.experiments.laws.solvable_scaling.projected import expected_losses, problem
from pipeline.experiments.laws.solvable_scaling.quanta import data_loss
from pipeline.experiments.laws.solvable_scaling.spectrum import beyond, decayed_beyond, modes
from pipeline.experiments.verdict import Claim
from tests.experiments.laws.bench import dials, read_laws, try_law

LAW = "solvable_scaling"
MODELS = [name for name, value in dials(LAW).items() if isinstance(value, dict)]
QUICK = {
    "seeds": [0, 1, 2, 3],
    "exponents": [[1.5, 2.0]],
    "engine": {"offsets": [0.05], "noise": 0.01},
    "random_features": dials(LAW)["random_features"] | {"ratios": [0.25, 0.6, 1.0, 1.6, 4.0], "num_draws": 5},
    "projected": {"widths": [32, 45, 64, 91, 128, 181], "num_visible": 1024, "num_steps": 6000, "rate": 0.5,
                  "num_replicas": 400, "num_sampled": 100},
    "kernel_dimension": {"dimensions": [1, 2], "most_points": 400, "smoothness": [1.5, 2.5], "most_swept": 320,
                         "num_draws": 4},
}  # fmt: skip


def only(**kept):
    """Dials that leave every other model out."""
    return dict.fromkeys(MODELS) | kept


@pytest.fixture(scope="module")
def tried():
    return try_law(LAW, **QUICK)


def within(sample, expected, share=0.03):
    """Whether the mean of a sample is as expected, up to three standard errors and a share."""
    return abs(np.mean(sample) - expected) <= 3 * np.std(sample, ddof=1) / np.sqrt(len(sample)) + share * expected


def test_sums_over_modes_are_those_over_a_million_of_them():
    k, (place, count) = np.arange(1, 1_000_001.0), modes(1e6)
    for b, a, rate in ((1.5, 2.0, 1e3), (1.8, 1.3, 1e4), (4.0, 1.5, 1e2)):
        direct = np.sum(k**-b * np.exp(-rate * k**-a))
        assert np.sum(count * place**-b * np.exp(-rate * place**-a)) == pytest.approx(direct, rel=1e-6)
        missing = np.sum((k**-b * np.exp(-rate * k**-a))[200:]) + beyond(b, 1e6)
        assert decayed_beyond(b, a, rate, 200) == pytest.approx(missing, rel=1e-4)
    assert beyond(1.5, 1e6) == pytest.approx(zeta(1.5) - np.sum(k**-1.5), rel=1e-9)


def test_the_surface_is_that_of_gradient_flow():
    a, b, k = 1.5, 2.0, np.arange(1, 41.0)
    flow = solve_ivp(lambda _, w: -(k**-a) * w, (0, 30), k ** ((a - b) / 2), t_eval=[3.0, 30.0], rtol=1e-10, atol=1e-13)
    expected = [np.sum(k**-a * w**2) + zeta(b, 41) for w in flow.y.T]
    np.testing.assert_allclose(flow_loss(np.array([40, 40]), np.array([3.0, 30.0]), a, b), expected, rtol=1e-7)


def test_the_smooth_surface_is_the_same_and_has_the_known_amplitude():
    N, t = np.array([200.0, 1000.0]), np.array([1e3, 1e5])
    for a, b in ((1.5, 2.0), (2.0, 1.5)):
        smooth = [smooth_loss(size, time, a, b) for size, time in zip(N, t, strict=True)]
        np.testing.assert_allclose(smooth, flow_loss(N, t, a, b), rtol=2e-5)
        s = (b - 1) / a
        assert smooth_loss(1e18, 1e6, a, b) == pytest.approx(gamma(s) / a * (2e6) ** -s, rel=1e-6)


def test_the_expected_loss_of_sgd_is_the_mean_of_sampled_sgd():
    """Modes beyond the last are noise: 600 runs of 60 steps at batch 2 with 150 modes learned."""
    a, b, last, batch, rate = 1.5, 2.0, 150, 2, 0.5
    k, random, eta = np.arange(1, last + 1.0), np.random.default_rng(0), rate / zeta(a)
    left = np.tile(k ** ((a - b) / 2), (600, 1))
    exact = expected_loss(a, b, rate, batch, 60, last)
    for step in range(61):
        if step in (0, 10, 60):
            assert within(np.sum(k**-a * left**2, axis=1) + beyond(b, last), exact[step], 0.01)
        x = random.normal(size=(600, batch, last)) * k ** (-a / 2)
        missed = np.einsum("rbk,rk->rb", x, left) + random.normal(size=(600, batch)) * np.sqrt(beyond(b, last))
        left -= eta * np.einsum("rb,rbk->rk", missed, x) / batch


@pytest.mark.parametrize(("a", "batch"), [(1.3, 1), (1.5, 1), (2.0, 4)])
def test_at_the_edge_the_recursion_of_sgd_has_spectral_radius_one(a, batch):
    k, count = modes(1e6)
    eta, power = stability_edge(a, batch) / zeta(a), k**-a
    grown = np.diag(1 - 2 * eta * power + eta**2 * (1 + 1 / batch) * power**2)
    grown = grown + eta**2 / batch * np.outer(power, count * power)
    assert np.abs(np.linalg.eigvals(grown)).max() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("n", [64, 256])
def test_kernel_regression_errs_as_sampled(n):
    """Gaussian modes up to 2000; the kernel of the rest is a ridge, their share of the target noise."""
    a, b, last, random = 1.5, 2.0, 2000, np.random.default_rng(n)
    k, sample = np.arange(1, last + 1.0), []
    for _ in range(24 if n == 64 else 8):
        X = random.normal(size=(n, last)) * k ** (-a / 2)
        y = X @ k ** ((a - b) / 2) + random.normal(size=n) * np.sqrt(beyond(b, last))
        weights = X.T @ np.linalg.solve(X @ X.T + beyond(a, last) * np.eye(n), y)
        sample.append(np.sum(k**-a * (weights - k ** ((a - b) / 2)) ** 2) + beyond(b, last))
    assert within(sample, kernel_regression.expected_error(a, b, n)[0])


@pytest.mark.parametrize(("n", "P"), [(40, 120), (120, 40), (60, 60)])
def test_random_features_err_as_sampled(n, P):
    random = np.random.default_rng(n)
    sample = [random_features.sampled_error(1.5, 2.0, n, P, random) for _ in range(60)]
    limits = {"delta": random_features.RIDGE, "last": random_features.SAMPLED_MODES, "hidden": False}
    assert within(sample, random_features.expected_error(1.5, 2.0, n, P, **limits), 0.05)


@pytest.mark.parametrize("delta", [0.0, 0.01])
def test_infinitely_many_features_are_the_kernel(delta):
    many = random_features.expected_error(1.3, 1.8, 300, 1e13, delta)
    assert many == pytest.approx(kernel_regression.expected_error(1.3, 1.8, 300, delta)[0], rel=1e-6)


def test_no_weights_lose_less_than_the_floor_of_a_projection():
    alpha, beta, random = 1.0, 0.3, np.random.default_rng(0)
    W, j = random.normal(size=(300, 20)) / np.sqrt(20), np.arange(1, 301.0)
    curvature, best, floor = problem(alpha, beta, W, hidden=False)
    seen = W * j[:, None] ** -alpha
    weights, (residual,), *_ = np.linalg.lstsq(seen, j ** (-alpha - beta))
    assert floor == pytest.approx(residual, rel=1e-9)
    assert np.sum(best**2) == pytest.approx(np.sum(weights**2), rel=1e-9)
    np.testing.assert_allclose(np.sort(curvature), np.sort(np.linalg.svd(seen)[1] ** 2), rtol=1e-9)
    first = expected_losses(curvature, best, floor, 0.5, np.array([0, 1]))[0]
    assert first == pytest.approx(np.sum(j ** (-2 * alpha - 2 * beta)), rel=1e-9)


def test_the_frontier_of_a_known_surface_is_found():
    widths, steps = np.round(np.geomspace(10, 1000, 15)), np.unique(np.round(np.geomspace(1, 1e5, 200)))
    C, loss, size = frontier(widths, steps, 1 / widths[:, None] + 1 / steps)
    np.testing.assert_allclose(loss, 2 / np.sqrt(C), rtol=2e-3)
    np.testing.assert_allclose(size, np.sqrt(C), rtol=0.05)


@pytest.mark.parametrize("tau", [1, 3])
def test_quanta_are_learned_as_from_zipf_samples(tau):
    alpha, random = 0.5, np.random.default_rng(tau)
    sample = []
    for _ in range(200):
        quantum, times = np.unique(random.zipf(1 + alpha, 1000), return_counts=True)
        sample.append(1 - np.sum(quantum[times >= tau] ** -(1 + alpha)) / zeta(1 + alpha))
    assert within(sample, data_loss(alpha, tau, np.array([1000.0]))[0], 0.002)


def test_skills_follow_the_flow_of_their_two_factors():
    alpha, initial, t = 0.6, 0.01, 300.0
    p = np.arange(1, 201.0) ** -(1 + alpha) / zeta(1 + alpha)
    flow = solve_ivp(lambda _, u: p * (1 - u**2) * u, (0, t), np.full(200, np.sqrt(initial)), rtol=1e-9, atol=1e-12)
    expected = np.sum(p * (1 - flow.y[:, -1] ** 2) ** 2) / 2 + beyond(1 + alpha, 200) / zeta(1 + alpha) / 2
    assert skills.loss(alpha, initial, t, 200.0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_the_closed_form_of_materns_kernel_is_bessels(nu):
    r = np.linspace(0.01, 3, 50)
    x = np.sqrt(2 * nu) * r
    np.testing.assert_allclose(kernel_dimension.matern(nu, r), 2 ** (1 - nu) / gamma(nu) * x**nu * kv(nu, x), rtol=1e-9)


def test_the_error_averaged_over_teachers_is_that_of_sampled_teachers():
    d, n, teacher, student = 2, 40, 1.5, 0.5
    random = np.random.default_rng(3)
    X = np.concatenate([random.random((n, d)), random.uniform(*kernel_dimension.INSIDE, (kernel_dimension.TESTED, d))])
    far = cdist(X, X)
    root = np.linalg.cholesky(kernel_dimension.matern(teacher, far) + 1e-10 * np.eye(len(X)))
    K = kernel_dimension.matern(student, far)
    fields = root @ random.normal(size=(len(X), 2000))
    missed = fields[n:] - K[n:, :n] @ np.linalg.solve(K[:n, :n], fields[:n])
    exact = kernel_dimension.expected_error(d, n, teacher, student, np.random.default_rng(3))
    assert within(np.mean(missed**2, axis=0), exact, 0.005)


def test_every_law_and_boundary_holds_and_every_control_fails(tried):
    verdicts = {(one.law, one.role): one.verdict for one in tried.judgement.findings}
    assert {verdict for (_, role), verdict in verdicts.items() if role != "control"} == {"holds"}
    controls = {verdict for (_, role), verdict in verdicts.items() if role == "control"}
    assert controls == {"violated", "not_reached"}
    assert tried.judgement.findings[0].law == "compute exponent of known surfaces, q-form"


@pytest.mark.parametrize("unknown", [None, np.nan])
def test_exponents_are_recovered_only_if_every_one_is_known(unknown):
    exact, noisy = (Exponent("", "L in t", "", 1.0, measured) for measured in (1.01, unknown))
    wide, wrong = Exponent("", "L in N", "", 1.0, 1.001, error=0.5, num=4), Exponent("", "L in C", "", 1.0, 1.4)
    for members, verdict, of in (
        ([exact, noisy], "undetermined", "L in t"),
        ([exact, wide], "undetermined", "L in N"),
        ([exact, wide, noisy, wrong], "violated", "L in C"),
    ):
        for order in (members, members[::-1]):
            found = recovered(Claim("", "", ""), order, 0.1, "words")
            assert found.verdict == verdict
            assert f"that of {of}" in found.statement


@pytest.mark.parametrize(
    ("law", "kind", "column"),
    [
        ("exponents of gradient flow", "gradient_flow_exact", "modes_last"),
        ("quanta: exponents in size and data", "quanta_power", "data_last"),
        ("skills: exponents in time, size and compute", "skills_power", "size_last"),
        ("one-pass SGD: exponent in time", "one_pass_sgd_power", "last"),
    ],
)
def test_an_exponent_that_was_not_measured_leaves_the_claim_open(tried, law, kind, column):
    own = (pl.col("kind") == kind) & (pl.col("run_id") == tried.runs.filter(kind=kind)["run_id"][0])
    runs = tried.runs.with_columns(pl.when(own).then(np.nan).otherwise(pl.col(column)).alias(column))
    (found,) = [one for one in judge(tried.settings, runs, tried.curves).findings if one.law == law]
    assert (found.verdict, found.measured) == ("undetermined", None)


def test_the_engine_refuses_the_additive_form_where_a_mode_counts_once(tried):
    flow = tried.runs.filter(tried.runs["kind"] == "engine_flow")
    assert flow["additive_refused"].to_list() == [1.0]
    assert flow["q_form_refused"].to_list() == [0.0]
    assert (flow["additive_held_out"] > 5 * flow["q_form_held_out"]).all()
    assert flow["additive_alpha_C"][0] > 0.45 > 0.4 > flow["q_form_alpha_C"][0] > 0.39
    additive = tried.runs.filter(tried.runs["kind"] == "engine_additive")
    clean = additive.filter(additive["noise"] == 0)
    assert clean["additive_alpha_C"][0] == pytest.approx(0.4, rel=1e-6)


def test_the_interval_of_a_fitted_exponent_is_as_wide_as_the_engines(tried):
    flow = tried.runs.filter(kind="engine_flow").row(0, named=True)
    for name, role, form in (("q-form", "law", "q_form"), ("additive form", "control", "additive")):
        found = tried.finding(f"compute exponent of known surfaces, {name}", role)
        width = flow[f"{form}_alpha_C_high"] - flow[f"{form}_alpha_C_low"]
        assert found.interval[1] - found.interval[0] == pytest.approx(width)
        assert found.error == pytest.approx(width / 2 / 1.984, rel=1e-3)
    lost = tried.runs.with_columns(q_form_alpha_C_low=pl.lit(np.nan))
    found, *_ = judge(tried.settings, lost, tried.curves).findings
    assert (found.verdict, found.interval) == ("undetermined", None)


def test_a_step_next_to_the_edge_violates_the_exponent_of_sgd():
    steep = dials(LAW)["one_pass_sgd"] | {"rates": [1.33], "num_steps": 2000}
    near = try_law(LAW, **only(one_pass_sgd=steep), exponents=[[1.5, 2.0]])
    assert near.finding("one-pass SGD: exponent in time").verdict == "violated"


def test_a_diverged_run_is_a_result():
    fast = dials(LAW)["one_pass_sgd"] | {"rates": [0.1], "edge": [1.3, 1.4, 3.0]}
    runs = try_law(LAW, **only(one_pass_sgd=fast), exponents=[[1.5, 2.0]]).runs
    (gone,) = runs.filter(runs["status"] == "diverged").iter_rows(named=True)
    assert gone["rate"] == 3.0
    assert gone["reason"].startswith("loss above 1e+12 at step")


def test_the_same_run_gives_the_same_bits(tried):
    again = try_law(LAW, **QUICK)
    assert again.runs.equals(tried.runs)
    assert again.curves.equals(tried.curves)


def section(model, **changed):
    return {model: dials(LAW)[model] | changed}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0]}, r"solvable_scaling\.seeds: List should have at least 2 items"),
        ({"exponents": [[1.5, 0.5]]}, r"exponents\.0\.1: .*greater than 1 \(value 0.5\)"),
        ({"exponents": [[1.5, 3.0]]}, r"exponents: b = 3 is not below 1 \+ a = 2.5"),
        (dict.fromkeys(MODELS), r"engine: every model is left out"),
        (section("engine", noise=0.0), r"engine\.noise: .*greater than 0"),
        (section("one_pass_sgd", edge=[0.5, 1.0]), r"one_pass_sgd\.edge: \[0.5, 1.0\] lie on one side .* 1.364"),
        (section("one_pass_sgd", rates=[0.1, 1.3]), r"one_pass_sgd\.rates: 1.3 is not below the edge 1.005"),
        (section("one_pass_sgd", sources=[2.0, 2.9]), r"one_pass_sgd\.sources: .* one side of the predicted end 3"),
        (section("kernel_regression", sources=[2.0, 3.0]), r"kernel_regression\.sources: .* one side"),
        (section("random_features", ratios=[0.1, 0.2, 0.3, 0.4, 0.5]), r"random_features\.ratios: .* one side"),
        (section("projected", widths=[8, 16, 32, 0]), r"projected\.widths\.3: .*greater than 0"),
        (section("projected", num_visible=600), r"projected\.widths: 512 is more than half of num_visible 600"),
        (section("projected", num_steps=1000), r"projected\.num_steps: 1000 is less than 20 times"),
        (section("quanta", alphas=[]), r"quanta\.alphas: List should have at least 1 item"),
        (section("skills", initial=0.7), r"skills\.initial: .*less than 0.5"),
        (section("kernel_dimension", smoothness=[0.5, 1.5]), r"kernel_dimension\.smoothness: .* one side"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_laws(tmp_path, {LAW: dials(LAW) | changed})
