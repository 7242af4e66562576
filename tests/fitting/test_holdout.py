"""Proves the hold-outs on known and on wrong laws."""

import numpy as np
import pytest

from pipeline.fitting.estimators import L2, L2_LINEAR, Huber
from pipeline.fitting.holdout import compute_quantile, hold_out, holdout_advantage
from pipeline.fitting.laws import Chinchilla, QForm
from pipeline.fitting.runs import Runs
from pipeline.fitting.tree_noise import TreeNoise
from pipeline.fitting.validation import leave_one_scale_out, rolling_origin, trust
from tests.fitting.measured_studies import ADDITIVE_TRUTH, Q_TRUTH, study


def top_quarter(form, runs, estimator, num_resamples=100, seed=0):
    return hold_out(form, runs, estimator, compute_quantile(runs, 0.75), num_resamples, seed)


def test_the_hold_out_never_sees_the_larger_runs():
    runs = Runs.of(*study("S5"))
    found = top_quarter(QForm, runs, Huber())
    again = top_quarter(QForm, runs.with_losses(np.where(found.test, runs.L * 1.3, runs.L)), Huber())
    assert found.fit.theta.tobytes() == again.fit.theta.tobytes()
    np.testing.assert_allclose(again.error - found.error, np.log(1.3), rtol=1e-9)
    assert runs.C[found.test].min() > found.threshold >= runs.C[~found.test].max()


def test_prediction_intervals_cover_when_the_law_is_true():
    """40 studies of 8 held-out runs: coverage near 95 % has a Monte-Carlo error of 1.9 points if runs were independent;
    runs of a study share their law, so 3.5 points count as one, and 3 of these are allowed."""
    N, D, _ = study("S5")
    random = np.random.default_rng(8)
    covered = []
    for number in range(40):
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * random.standard_normal(len(N)))
        covered.append(top_quarter(Chinchilla, Runs.of(N, D, L), L2, 100, number).coverage)
    assert 0.95 - 3 * 0.035 <= np.mean(covered) <= 1.0


def test_the_true_law_wins_the_hold_out_beyond_noise():
    N, D, _ = study("S5")
    L = Q_TRUTH.loss(N, D) * np.exp(0.002 * np.random.default_rng(0).standard_normal(len(N)))
    simple, rich = (top_quarter(form, Runs.of(N, D, L), L2) for form in (Chinchilla, QForm))
    difference, error = holdout_advantage(simple, rich, TreeNoise.independent(0.002, len(N)))
    assert difference > 2 * error
    assert rich.rms < simple.rms


def test_equal_laws_seldom_differ_beyond_noise():
    """40 studies in which the q-form contains the truth: at two sd about 5 % may differ; 4 of 40 is the 95 % limit."""
    N, D, _ = study("S5")
    random = np.random.default_rng(1)
    beyond = 0
    for _ in range(40):
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * random.standard_normal(len(N)))
        simple, rich = (top_quarter(form, Runs.of(N, D, L), L2, 0) for form in (Chinchilla, QForm))
        difference, error = holdout_advantage(simple, rich, TreeNoise.independent(0.003, len(N)))
        beyond += abs(difference) > 2 * error
    assert beyond <= 4


def test_influence_against_refits_to_changed_runs():
    runs = Runs.of(*study("S5"))
    found = top_quarter(QForm, runs, L2, 0)
    changed = runs.L.copy()
    changed[3] *= np.exp(1e-5)
    again = top_quarter(QForm, runs.with_losses(changed), L2, 0)
    training = int(np.flatnonzero(~found.test).tolist().index(3))
    moved = (again.log_predicted - found.log_predicted) / 1e-5
    np.testing.assert_allclose(moved, found.influence[:, training], rtol=0.1, atol=0.01)


def test_no_hold_out_when_the_rest_does_not_identify_the_law():
    N, D, L = study("S5")
    few = (N <= np.unique(N)[2]) & (D <= np.unique(D)[2])
    assert top_quarter(QForm, Runs.of(N[few], D[few], L[few]), L2) is None
    assert top_quarter(QForm, Runs.of(N, D, L, np.full(len(N), 1e12)), L2) is None


def test_no_run_is_tested_twice_by_rolling_origins():
    runs = Runs.of(*study("S5"))
    origins = rolling_origin(Chinchilla, runs, L2, 50, 0)
    assert len(origins) == 4
    assert np.sum([one.test for one in origins], axis=0).max() == 1
    for one in origins:
        assert runs.C[one.train].max() <= one.threshold < runs.C[one.test].min()
        assert runs.C[one.test].max() <= one.until


def test_a_wrong_law_is_not_trusted_and_a_right_one_is():
    N, D, _ = study("S5")
    N, D = np.concatenate([N, 1.3 * N]), np.concatenate([D, D])
    noise = np.exp(0.002 * np.random.default_rng(3).standard_normal(len(N)))
    wrong = trust(rolling_origin(Chinchilla, Runs.of(N, D, Q_TRUTH.loss(N, D) * noise), L2, 100, 0))
    right = trust(rolling_origin(QForm, Runs.of(N, D, Q_TRUTH.loss(N, D) * noise), L2, 100, 0))
    assert wrong.factor > 1.3
    assert wrong.coverage < 0.8
    assert right.factor == 1.0


def test_each_scale_left_out_is_predicted_by_the_rest():
    N, D, _ = study("S5")
    L = ADDITIVE_TRUTH.loss(N, D)
    odd = np.unique(N)[2]
    for variable in ("N", "D"):
        assert max(one.rms for one in leave_one_scale_out(Chinchilla, Runs.of(N, D, L), L2, variable)) < 1e-8
    bent = leave_one_scale_out(Chinchilla, Runs.of(N, D, np.where(odd == N, 1.05 * L, L)), Huber(1e-3))
    worst = max(bent, key=lambda one: one.rms)
    assert worst.value == pytest.approx(odd)
    assert worst.bias == pytest.approx(np.log(1.05), rel=0.05)


def test_the_rest_of_a_large_table_is_fitted_from_the_whole_as_from_scratch():
    """2,400 runs, more than are fitted from many starts: each left-out size against a fit of its own."""
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e5, 1e7, 60), np.geomspace(1e6, 1e8, 40)))
    L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * np.random.default_rng(2).standard_normal(len(N)))
    runs = Runs.of(N, D, L)
    found = leave_one_scale_out(Chinchilla, runs, L2, most=3)
    groups = np.split(np.unique(N), 3)
    for one, group in zip(found, groups, strict=True):
        left = np.isin(N, group)
        law = runs.subset(~left).fitted(Chinchilla, L2).law
        assert one.num_runs == left.sum()
        assert one.rms == pytest.approx(np.sqrt(np.mean(np.log(L[left] / law.loss(N[left], D[left])) ** 2)), rel=1e-6)


def test_rounding_widens_no_interval():
    """Held-out errors of a table without noise are rounding, and so are its intervals."""
    N, D, _ = study("S5")
    for scale in (1.0, 1e4):
        origins = rolling_origin(Chinchilla, Runs.of(N, D, scale * ADDITIVE_TRUTH.loss(N, D)), L2_LINEAR, 50, 0)
        assert (trust(origins).factor, trust(origins).coverage) == (1.0, 1.0)
