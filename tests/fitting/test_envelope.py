"""Proves the envelope of approach 1 against the closed form of an additive law, and each refusal by its reason.

L = E + A / N^alpha + B / D^beta has N* = G (C / 6)^a with a = beta / (alpha + beta) (arXiv 2203.15556, eq. 4).
"""

import numpy as np
import pytest

from pipeline.fitting.envelope import _slope, envelope

E, ALPHA, BETA = 0.95, 0.446, 0.414
A, B = 0.284 * 1e5**ALPHA, 0.378 * 1e6**BETA
EXPONENT = BETA / (ALPHA + BETA)


def loss(N, D):
    return E + A / N**ALPHA + B / D**BETA


def optimal_size(C):
    return (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (C / 6) ** EXPONENT


def runs(num_sizes=16, ratio=1.4, tokens=tuple(120_000 * 2**k for k in range(12)), smallest=1e4):
    N, D = np.meshgrid(smallest * ratio ** np.arange(num_sizes), np.array(tokens, float), indexing="ij")
    return N.ravel(), D.ravel()


CURVES = runs(tokens=np.geomspace(120_000, 240_000_000, 60))
"""Sixteen training curves, evaluated sixty times each."""


def test_runs_find_the_closed_form_up_to_the_staircase():
    N, D = runs(num_sizes=30, ratio=1.2)
    found = envelope(N, D, loss(N, D), num_resamples=100, seed=0)
    assert found.exponent == pytest.approx(EXPONENT, abs=0.003)
    assert found.interval[0] < EXPONENT < found.interval[1]
    np.testing.assert_allclose(found.C, 6 * found.N_star * found.D_star, rtol=1e-12)
    assert set(found.N_star) <= set(N)


@pytest.mark.parametrize(("num_sizes", "turns", "high"), [(6, 4, 0.099), (9, 7, 0.029), (16, 13, 0.007)])
def test_turns_cut_short_at_the_ends_steepen_the_staircase(num_sizes, turns, high):
    N, D = np.meshgrid(np.geomspace(1e6, 3e8, num_sizes), np.geomspace(1e8, 3e10, 20), indexing="ij")
    found = envelope(N.ravel(), D.ravel(), (1.7 + 400 / N**0.34 + 1000 / D**0.3).ravel(), 0, 0)
    turn = np.unique(found.N_star, return_counts=True)[1]
    assert len(turn) == turns
    assert max(turn[0], turn[-1]) < 0.7 * turn[1:-1].mean()
    assert found.exponent / (0.3 / 0.64) - 1 == pytest.approx(high, abs=0.005)


@pytest.mark.parametrize(("share", "off"), [(1.0, lambda K: -1 / K**2), (0.5, lambda K: 1 / (2 * (K - 1) ** 2))])
@pytest.mark.parametrize("num_turns", [3, 5, 9])
def test_the_slope_of_an_even_staircase(num_turns, share, off):
    reach = (num_turns - 1) / 2
    x = np.linspace(0.5 - reach - share, reach - 0.5 + share, 20_001) * (1 - 1e-9)
    assert _slope(x, np.round(x), np.full(len(x), True)) - 1 == pytest.approx(off(num_turns), abs=1e-3)


def test_training_curves_find_the_closed_form_within_one_step():
    N, D = CURVES
    found = envelope(N, D, loss(N, D), 10, 0, curve=np.round(N).astype(int))
    assert found.exponent == pytest.approx(EXPONENT, abs=0.003)
    assert np.abs(np.log(found.N_star / optimal_size(found.C))).max() < np.log(1.4)
    np.testing.assert_allclose(found.loss, loss(found.N_star, found.D_star), rtol=1e-3)


def test_the_envelope_lies_on_or_below_every_curve():
    N, D = CURVES
    found = envelope(N, D, loss(N, D), 10, 0)
    for size in np.unique(N):
        tokens = found.C / (6 * size)
        inside = (tokens >= D.min()) & (tokens <= D.max())
        assert (found.loss[inside] <= loss(size, tokens[inside]) * (1 + 1e-3)).all()


def test_several_curves_of_one_size_count_by_the_better_one():
    N, D = CURVES
    worse = envelope(
        np.tile(N, 2), np.tile(D, 2), np.append(loss(N, D), 1.1 * loss(N, D)), 10, 0, curve=np.append(N, -N).astype(int)
    )
    assert worse.exponent == envelope(N, D, loss(N, D), 10, 0).exponent


@pytest.mark.parametrize("shared", [False, True], ids=["runs", "curves"])
def test_the_interval_covers_the_truth(shared):
    N, D = CURVES if shared else runs()
    curve, random, covered = (np.unique(N, return_inverse=True)[1] if shared else None), np.random.default_rng(0), 0
    for seed in range(60):
        noise = random.standard_normal(16)[curve] if shared else random.standard_normal(len(N))
        found = envelope(N, D, loss(N, D) * np.exp(0.002 * noise), 200, seed, curve=curve, noise_sd=0.002)
        covered += found.interval[0] < EXPONENT < found.interval[1]
    assert covered >= 54


def test_the_interval_widens_where_the_envelope_hangs_on_fewer_sizes():
    designs = runs(num_sizes=8, ratio=1.96), runs(), runs(num_sizes=32, ratio=1.19)
    widths = [np.diff(envelope(*at, loss(*at), 200, 0).interval)[0] for at in designs]
    assert widths[0] > widths[1] > widths[2] > 0


def test_every_budget_is_accepted_or_refused_with_a_reason():
    N, D = runs()
    found = envelope(N, D, loss(N, D), 10, 0, num_budgets=150)
    assert len(found.C) + len(found.refused) == 150
    assert {reason for _, reason in found.refused} == {
        "1 sizes reach this budget, 3 are needed",
        "2 sizes reach this budget, 3 are needed",
        "the smallest loss is at the largest size that reaches it",
    }


@pytest.mark.parametrize(("smallest", "edge"), [(1e8, "smallest"), (1.0, "largest")])
def test_sizes_all_too_large_or_too_small_are_refused(smallest, edge):
    N, D = runs(num_sizes=5, smallest=smallest)
    found = envelope(N, D, loss(N, D), 10, 0)
    assert (len(found.C), found.exponent, found.interval) == (0, None, None)
    assert f"the smallest loss is at the {edge} size that reaches it" in {reason for _, reason in found.refused}


def test_two_turns_on_the_envelope_have_no_exponent():
    N, D = runs(num_sizes=4, ratio=2.2)
    found = envelope(N, D, loss(N, D), 10, 0)
    assert len(set(found.N_star)) == 2
    assert (found.exponent, found.interval) == (None, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"L": [1.0, -1.0]}, "L: row 1 is -1.0; must be finite and positive"),
        ({"curve": [1, 1]}, r"curve: 1 has sizes \[10.0, 20.0\]; a curve has one size"),
        ({"curve": [1]}, r"curve: \(1,\) labels for \(2,\) rows"),
        ({"noise_sd": -1.0}, "noise_sd: -1.0 is not a number of zero or more"),
        ({"num_budgets": 2}, "num_budgets: 2 budgets have no slope; 3 are needed"),
    ],
)
def test_wrong_values_are_refused_by_name(changed, message):
    values = {"N": [10.0, 20.0], "D": [1.0, 2.0], "L": [1.0, 1.0]} | changed
    with pytest.raises(ValueError, match=message):
        envelope(**values, num_resamples=1, seed=0)
