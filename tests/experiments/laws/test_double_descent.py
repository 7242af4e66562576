"""Double descent: its formulas against single lstsq solutions and large matrices, and every verdict that can occur."""

import numpy as np
import polars as pl
import pytest

from pipeline.experiments.laws.double_descent import equivalent, exact, fall, judge, least_norm, risk_given
from tests.experiments.laws.bench import dials, read_laws, try_law

QUICK = {"seeds": [0, 1], "num_samples": 20, "num_features": [5, 16, 19, 20, 21, 24, 30, 80], "repetitions": 600}


@pytest.fixture(scope="module")
def tried():
    return try_law("double_descent", **QUICK)


def single_errors(n, p, r2, s2, repetitions, seed=7):
    """|b - beta|^2 of one lstsq call a data set, beta along an axis."""
    random, errors = np.random.default_rng(seed), []
    for _ in range(repetitions):
        X = random.normal(size=(n, p))
        beta = np.zeros(p)
        beta[0] = np.sqrt(r2)
        b = np.linalg.lstsq(X, X @ beta + np.sqrt(s2) * random.normal(size=n), rcond=None)[0]
        errors.append(((b - beta) ** 2).sum())
    return np.array(errors)


@pytest.mark.parametrize("p", [3, 8, 12])
def test_the_solution_of_least_norm_is_that_of_lstsq(p):
    random = np.random.default_rng(3)
    X, y = random.normal(size=(5, 8, p)), random.normal(size=(5, 8))
    solved, spectrum = least_norm(X, y)
    for one, own in enumerate(X):
        np.testing.assert_allclose(solved[one], np.linalg.lstsq(own, y[one], rcond=None)[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            np.sqrt(spectrum[one]), np.sort(np.linalg.svd(own, compute_uv=False)), rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize(("n", "p"), [(20, 6), (12, 30)])
def test_the_exact_mean_and_variance_are_those_of_single_solutions(n, p):
    errors = single_errors(n, p, 1.3, 0.4, 6000)
    mean, variance = exact(n, p, 1.3, 0.4)
    assert abs(errors.mean() - mean) < 3.5 * np.sqrt(variance / len(errors))
    assert errors.var() == pytest.approx(variance, rel=0.15)


def test_there_is_no_mean_beside_the_peak_and_no_variance_near_it():
    assert [np.isfinite(exact(20, p, 1.0, 0.1)).tolist() for p in (16, 18, 19, 20, 21, 22)] == [
        [True, True],
        [True, False],
        [False, False],
        [False, False],
        [False, False],
        [True, False],
    ]


@pytest.mark.parametrize(("p", "ridge"), [(6, 0.7), (25, 0.7), (25, 0.0)])
def test_the_risk_given_the_inputs_is_the_mean_over_noise_and_directions(p, ridge):
    random, n, r2, s2 = np.random.default_rng(1), 15, 1.3, 0.4
    X = random.normal(size=(n, p))
    beta = random.normal(size=(p, 20000))
    beta *= np.sqrt(r2) / np.linalg.norm(beta, axis=0)
    y = X @ beta + np.sqrt(s2) * random.normal(size=(n, 20000))
    b = np.linalg.pinv(X) @ y if ridge == 0 else np.linalg.solve(X.T @ X + ridge * np.eye(p), X.T @ y)
    spectrum = least_norm(X[None], y[:, 0][None])[1]
    assert ((b - beta) ** 2).sum(0).mean() == pytest.approx(risk_given(spectrum, p, r2, s2, ridge)[0], rel=0.02)


@pytest.mark.parametrize("p", [200, 400, 700])
def test_the_deterministic_equivalent_is_the_risk_of_large_matrices(p):
    X = np.random.default_rng(2).normal(size=(1, 400, p))
    spectrum = least_norm(X, np.ones((1, 400)))[1]
    assert equivalent(400, p, 1.0, 0.25, 30.0) == pytest.approx(risk_given(spectrum, p, 1.0, 0.25, 30.0)[0], rel=0.01)


def test_a_fall_is_the_largest_part_lost_on_the_way_up():
    assert fall([1.0, 2.0, 1.5, 3.0, 2.1]) == pytest.approx(0.3)
    assert fall([1.0, 2.0, 2.0, 3.0]) == 0


def test_the_law_holds_its_ends_lie_where_predicted_and_the_control_fails(tried):
    verdicts = [(one.role, one.verdict) for one in tried.judgement.findings]
    assert {verdict for role, verdict in verdicts if role != "control"} == {"holds"}
    assert [verdict for role, verdict in verdicts if role == "control"] == ["violated"]
    assert tried.finding("peak of the risk", "boundary").measured == pytest.approx(20)


def tails(tried, index):
    """The finding on the mean if the tail index of single errors had been `index[|p - n|]`, and 2 elsewhere."""
    gap = (pl.col("num_features") - 20).abs()
    tail = 1 / gap.replace_strict(index, default=2.0, return_dtype=pl.Float64)
    judged = judge(tried.settings, tried.runs.with_columns(tail=tail), tried.curves)
    (found,) = (one for one in judged.findings if one.law == "mean of the risk exists")
    return found


def test_the_sizes_without_a_mean_risk_are_those_whose_tail_index_says_so(tried):
    (exact,) = tried.finding("exact risk of least squares").regime
    assert (exact.low, exact.high, exact.broke_at, exact.predicted) == (4, None, None, None)
    for index, verdict, low, broke_at in (
        ({0: 0.5, 1: 1.2, 4: 3.0}, "holds", 1, 0),
        ({0: 0.5, 1: 0.9, 4: 3.0}, "holds", 4, 1),
        ({0: 1.5, 1: 1.6, 4: 3.0}, "not_reached", 0, None),
        ({0: 0.5, 1: 0.6, 4: 0.7}, "not_reached", None, 4),
    ):
        found = tails(tried, index)
        assert found.verdict == verdict, index
        (regime,) = found.regime
        assert (regime.low, regime.high, regime.broke_at, regime.predicted) == (low, None, broke_at, 1)


def test_ridges_that_all_remove_the_peak_reach_no_boundary():
    inside = try_law("double_descent", **QUICK | {"ridges": [0.5, 1.0], "repetitions": 100})
    assert inside.finding("peak removed by ridge", "boundary").verdict == "not_reached"


def test_the_same_run_gives_the_same_bits(tried):
    again = try_law("double_descent", **QUICK)
    assert again.runs.equals(tried.runs)
    assert again.curves.equals(tried.curves)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0]}, r"laws\.double_descent\.seeds: List should have at least 2 items"),
        ({"num_features": [10, 36, 39, 40, 41, 44]}, r"two sizes at least 4 below and two above 40 samples"),
        ({"num_features": [10, 36, 40, 44, 60]}, r"the peak is sought at 39, 40 and 41"),
        ({"ridges": [0.1, 0.2]}, r"the best ridge, 1.0, is missing"),
        ({"noises": [0.1]}, r"noises: List should have at least 2 items"),
        ({"noise": -0.1}, r"noise: .*greater than 0"),
        ({"repetitions": 10}, r"repetitions: .*greater than or equal to 100"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_laws(tmp_path, {"double_descent": dials("double_descent") | changed})
