"""Deep linear networks: the sigmoid against a numerical solution of its equation, and every verdict that can occur."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pipeline.experiments.laws.deep_linear import missed_by, sigmoid
from tests.experiments.laws.bench import read_laws, try_law

QUICK = {"rates": [0.01, 0.005, 0.0025], "scales": [0.1, 1e-6]}


@pytest.fixture(scope="module")
def tried():
    return try_law("deep_linear", **QUICK)


def test_the_sigmoid_solves_its_equation():
    s, initial, times = np.array([3.0, 0.5]), 1e-3, np.linspace(0, 10, 30)
    solved = solve_ivp(lambda _, a: 2 * a * (s - a), (0, 10), [initial] * 2, t_eval=times, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(sigmoid(s, initial, times), solved.y.T, rtol=1e-6)


@pytest.mark.parametrize("r", [0.5, 1.0, 3.0])
def test_the_error_of_an_imbalance_is_that_of_the_two_layer_flow(r):
    s, initial = 1.0, 1e-7
    u, v = np.sqrt(initial) * np.exp(r / 2), np.sqrt(initial) * np.exp(-r / 2)
    times = np.linspace(0, 25, 4000)
    flow = solve_ivp(lambda _, w: [w[1] * (s - w[0] * w[1]), w[0] * (s - w[0] * w[1])], (0, 25), [u, v],
                     t_eval=times, rtol=1e-10, atol=1e-14)  # fmt: skip
    error = np.abs(flow.y[0] * flow.y[1] - sigmoid(np.array([s]), initial, times)[:, 0]).max()
    assert error == pytest.approx(missed_by(r), rel=1e-3)


def test_the_law_holds_and_its_boundaries_lie_where_predicted(tried):
    verdicts = {(one.law, one.role): one.verdict for one in tried.judgement.findings}
    assert {verdict for (_, role), verdict in verdicts.items() if role != "control"} == {"holds"}
    assert {verdict for (_, role), verdict in verdicts.items() if role == "control"} == {"violated"}


def test_the_regime_of_the_sigmoids_ends_at_the_largest_rate_whose_error_is_within_the_bound(tried):
    error = dict(tried.judgement.tables["rate"].select("rate", "error").rows())
    assert error[0.0025] < 0.01 < error[0.005] < error[0.01]
    (near,), (fitted,) = tried.finding("sigmoid modes").regime, tried.finding("error of the sigmoids").regime
    assert (near.low, near.high, near.broke_at) == (0.0025, 0.0025, 0.005)
    assert (fitted.low, fitted.high, fitted.broke_at) == (0.0025, 0.01, None)


def test_a_coarse_rate_violates_the_law():
    coarse = try_law("deep_linear", **QUICK | {"rates": [0.1, 0.05]})
    found = coarse.finding("sigmoid modes")
    assert (found.verdict, found.regime[0].high, found.regime[0].broke_at) == ("violated", None, 0.05)


def test_a_sweep_that_stays_inside_finds_no_boundary():
    inside = try_law("deep_linear", **QUICK | {"imbalances": [0.1, 0.2]})
    assert inside.finding("sigmoid modes: imbalance r", "boundary").verdict == "not_reached"


def test_the_same_run_gives_the_same_bits(tried):
    again = try_law("deep_linear", **QUICK)
    assert again.runs.equals(tried.runs)
    assert again.curves.equals(tried.curves)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0]}, r"laws\.deep_linear\.seeds: List should have at least 2 items"),
        ({"rates": [0.01, -0.02]}, r"laws\.deep_linear\.rates\.1: .*greater than 0 \(value -0.02\)"),
        ({"num_hidden": 0}, r"laws\.deep_linear\.num_hidden: .*greater than 0"),
        ({"num_hidden": 4}, r"laws\.deep_linear\.strengths: 8 modes do not fit 16 x 4"),
        ({"depth": 3}, r"laws\.deep_linear\.depth: unknown key"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, changed, message):
    from tests.experiments.laws.bench import dials

    with pytest.raises(ValueError, match=message):
        read_laws(tmp_path, {"deep_linear": dials("deep_linear") | changed})
