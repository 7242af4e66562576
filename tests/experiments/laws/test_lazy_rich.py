"""Diagonal linear networks: the interpolant against linear programming, the pseudo-inverse and a minimisation over the
null space; the flow against plain steps; and every verdict that can occur."""

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.optimize import linprog, minimize

from pipeline.experiments.laws.lazy_rich.solutions import (
    boundary,
    gradient_descent,
    gradient_flow,
    interpolant,
    relative,
    sparsest,
)
from tests.experiments.laws.bench import dials, read_laws, try_law

QUICK = {"seeds": [0, 1, 2], "num_samples": 20, "num_nonzero": 2, "widths": [40, 60], "rates": [0.02, 0.01],
         "alphas": [0.0003, 0.01, 0.05, 0.1, 0.2, 0.4, 3.0]}  # fmt: skip


@pytest.fixture(scope="module")
def tried():
    return try_law("lazy_rich", **QUICK)


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(5)
    X = random.normal(size=(8, 20))
    return X, X[:, 0] - 0.5 * X[:, 1]


@pytest.mark.parametrize("alpha", [0.03, 0.3, 2.0])
def test_the_interpolant_is_the_least_q_over_the_null_space(problem, alpha):
    X, y = problem
    scale, base, free = 2 * alpha**2, np.linalg.pinv(X) @ y, null_space(X)

    def Q(z):
        w = base + free @ z
        slope = np.arcsinh(w / scale)
        return np.sum(w * slope - np.sqrt(w**2 + scale**2) + scale), free.T @ slope

    least = minimize(Q, np.zeros(free.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-10})
    np.testing.assert_allclose(interpolant(X, y, alpha), base + free @ least.x, atol=1e-6)


def test_the_interpolant_ends_in_the_linear_program_and_in_the_pseudo_inverse(problem):
    X, y = problem
    one = np.eye(20)
    least = linprog(np.r_[np.zeros(20), np.ones(20)], A_ub=np.block([[one, -one], [-one, -one]]), b_ub=np.zeros(40),
                    A_eq=np.hstack([X, np.zeros_like(X)]), b_eq=y, bounds=(None, None)).fun  # fmt: skip
    assert np.abs(sparsest(X, y)).sum() == pytest.approx(least, rel=1e-9)
    assert np.abs(interpolant(X, y, 1e-5)).sum() == pytest.approx(least, rel=1e-3)
    np.testing.assert_allclose(interpolant(X, y, 100.0), np.linalg.pinv(X) @ y, rtol=1e-6)


def test_plain_steps_tend_to_the_flow_by_first_order(problem):
    X, y = problem
    u, v = gradient_flow(X, y, 0.2)
    np.testing.assert_allclose(u * v, 0.04, rtol=1e-5)
    ends = [np.subtract(*np.square(gradient_descent(X, y, 0.2, rate))) for rate in (0.02, 0.01)]
    missed = [relative(w, u**2 - v**2) for w in ends]
    assert missed[0] / missed[1] == pytest.approx(2, rel=0.05)
    assert relative(2 * ends[1] - ends[0], u**2 - v**2) < missed[1] / 20


def test_the_boundary_is_as_far_from_either_end(problem):
    X, y = problem
    rich, lazy = sparsest(X, y), np.linalg.pinv(X) @ y
    w = interpolant(X, y, boundary(X, y, rich, lazy))
    assert np.linalg.norm(w - rich) == pytest.approx(np.linalg.norm(w - lazy), rel=1e-4)


def test_the_law_holds_and_both_boundaries_lie_where_foretold(tried):
    verdicts = {(one.law, one.role): one.verdict for one in tried.judgement.findings}
    assert {verdict for (_, role), verdict in verdicts.items() if role != "control"} == {"holds"}
    assert verdicts["rich end, from large weights", "control"] == "violated"


def test_finite_steps_are_smaller_initial_weights(tried):
    rates = tried.judgement.tables["rate"]
    assert (rates["explained"] < rates["missed"] / 10).all()


def test_long_steps_violate_the_law_and_longer_ones_diverge():
    long = try_law("lazy_rich", **QUICK | {"rates": [5.0, 0.07], "alphas": [0.01, 0.1, 0.4, 1.0]})
    assert long.finding("interpolant, finite steps").verdict == "violated"
    assert long.runs.filter(rate=5.0)["status"].unique().to_list() == ["diverged"]


def test_the_same_run_gives_the_same_bits(tried):
    assert try_law("lazy_rich", **QUICK).runs.equals(tried.runs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0]}, r"\.seeds: List should have at least 2 items"),
        ({"widths": [80]}, r"\.widths: List should have at least 2 items"),
        ({"widths": [80, 80]}, r".*widths: \[80, 80\] holds a value twice"),
        ({"widths": [30, 80]}, r".*num_samples: 40 must be more than num_nonzero and less than every width"),
        ({"num_nonzero": 0}, r"\.num_nonzero: .*greater than or equal to 1"),
        ({"alphas": [0.1, 0.2, 0.5, 3.0]}, r".*alphas: 0.1 to 3 must span 0.01 to 1"),
        ({"rates": [0.01, -0.1]}, r"\.rates\.1: .*greater than 0"),
        ({"depth": 3}, r"\.depth: unknown key"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, changed, message):
    with pytest.raises(ValueError, match=r"laws\.lazy_rich" + message):
        read_laws(tmp_path, {"lazy_rich": dials("lazy_rich") | changed})
