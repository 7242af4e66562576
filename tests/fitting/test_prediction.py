"""Proves predictions against the law and its resamples, and that they survive being stored."""

import json

import numpy as np
import pytest

from pipeline.fitting.analysis import analyse
from pipeline.fitting.estimators import L2, Huber
from pipeline.fitting.laws import Chinchilla, QForm, SaturatingN
from pipeline.fitting.prediction import Predictor
from pipeline.fitting.runs import Runs
from tests.fitting.measured_studies import ADDITIVE_TRUTH, Q_TRUTH, study


def noisy(law, seed=0, sd=0.003):
    N, D, _ = study("S5")
    return Runs.of(N, D, law.loss(N, D) * np.exp(sd * np.random.default_rng(seed).standard_normal(len(N))))


@pytest.fixture(scope="module")
def found():
    return analyse(Chinchilla, noisy(ADDITIVE_TRUTH), Huber(), 400, 0)


def test_a_run_is_predicted_by_the_law_and_its_interval_by_the_resamples(found):
    law, predictor = found.fit.law, found.predictor
    one = predictor.at(2e5, 4e6)
    assert one.loss == pytest.approx(float(law.loss(2e5, 4e6)), rel=1e-12)
    log_low, log_high = found.draws.interval(found.draws.log_loss([2e5], [4e6])[:, 0], np.log(one.loss))
    assert one.interval == pytest.approx((np.exp(log_low), np.exp(log_high)), rel=1e-12)
    assert one.prediction_interval[0] < one.interval[0] < one.loss < one.interval[1] < one.prediction_interval[1]
    assert one.C == 6 * 2e5 * 4e6


def test_a_budget_is_spent_on_the_best_size(found):
    predictor, C = found.predictor, 1e13
    best = predictor.budget(C)
    assert 6 * best.best.N * best.best.D == pytest.approx(C, rel=1e-12)
    for factor in (0.8, 1.25):
        assert predictor.at(best.best.N * factor, best.best.D / factor).loss > best.best.loss
    assert best.N_interval[0] < best.best.N < best.N_interval[1]
    assert best.flat_N[0] < best.best.N < best.flat_N[1]
    assert best.D_interval == pytest.approx((C / 6 / best.N_interval[1], C / 6 / best.N_interval[0]))


def test_far_extrapolation_is_said_and_intervals_grow(found):
    near, far = (found.predictor.budget(factor * found.runs.C.max()).best for factor in (2.0, 50.0))
    assert near.warnings == []
    assert far.warnings[0].startswith("far_extrapolation: 50 times the largest measured compute")
    assert np.log(far.interval[1] / far.interval[0]) > np.log(near.interval[1] / near.interval[0])


def test_what_lies_outside_the_measured_range_is_said(found):
    def names(one):
        return [warning.split(":")[0] for warning in one.warnings]

    predictor, runs = found.predictor, found.runs
    middle = float(np.median(runs.N)), float(np.median(runs.D))
    assert names(predictor.at(*middle)) == []
    assert names(predictor.at(runs.N.min() / 11, runs.D.max())) == ["far_N"]
    assert names(predictor.at(runs.N.min(), runs.D.max() * 11)) == ["far_D"]
    assert names(predictor.budget(runs.C.min() / 2).best) == ["below_range"]
    N, D, _ = study("S5")
    of_size = analyse(SaturatingN, Runs.of(N, D, 1.0 + 50 / N**0.4 * (1 + 1e-3 * (D / D.max()))), L2, 50, 0).predictor
    assert names(of_size.at(middle[0], runs.D.min() / 100)) == ["below_range"]


def test_a_budget_beyond_all_numbers_is_refused(found):
    assert found.predictor.budget(1e250).tokens_per_parameter_interval[1] > 0
    with pytest.raises(ValueError, match=r"the best size on 0\.001 FLOPs, is no size of a model"):
        found.predictor.budget(1e-3)
    with pytest.raises(ValueError, match=r"6 N D of 1e\+200 and 1e\+200 is out of the range of numbers"):
        found.predictor.at(1e200, 1e200)


def test_a_law_that_missed_held_out_runs_has_wider_prediction_intervals():
    N, D, _ = study("S5")
    N, D = np.concatenate([N, 1.3 * N]), np.concatenate([D, D])
    L = Q_TRUTH.loss(N, D) * np.exp(0.002 * np.random.default_rng(3).standard_normal(len(N)))
    runs = Runs.of(N, D, L)
    wrong = analyse(Chinchilla, runs, L2, 100, 0)
    assert wrong.trust.factor > 1
    assert "low_coverage" in [caution.name for caution in wrong.cautions]
    right = analyse(QForm, runs, L2, 100, 0)
    assert right.trust.factor == 1
    plain = Predictor(**{**vars(right.predictor), "widening": 1.0}).at(1e6, 1e7)
    wide = Predictor(**{**vars(right.predictor), "widening": 2.0}).at(1e6, 1e7)
    assert wide.interval == plain.interval
    assert np.log(wide.prediction_interval[1] / wide.loss) == pytest.approx(
        2 * np.log(plain.prediction_interval[1] / plain.loss)
    )


def test_it_comes_back_from_json(found):
    stored = json.loads(json.dumps(found.predictor.as_dict()))
    again = Predictor.from_dict(stored, found.predictor.draws)
    assert again.budget(1e14) == found.predictor.budget(1e14)
    with pytest.raises(ValueError, match="law: 'cubic' is none of chinchilla"):
        Predictor.from_dict(stored | {"law": "cubic"}, found.predictor.draws)


def test_nonsense_is_refused(found):
    for call, message in (
        (lambda: found.predictor.at(-1.0, 1e6), "N: -1.0 is not a finite positive number"),
        (lambda: found.predictor.budget(float("nan")), "C: nan is not a finite positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    N, D, _ = study("S5")
    flat = analyse(SaturatingN, Runs.of(N, D, 1.0 + 50 / N**0.4), L2, 50, 0).predictor
    with pytest.raises(ValueError, match="law: saturating_N has no size of least loss"):
        flat.budget(1e13)


def test_compute_is_counted_as_six_N_D_whatever_the_table_counts():
    runs = noisy(ADDITIVE_TRUTH)
    counted = Runs.of(runs.N, runs.D, runs.L, 1.7 * runs.C)
    predictor = analyse(Chinchilla, counted, Huber(), 50, 0).predictor
    largest = np.argmax(runs.N * runs.D)
    assert predictor.at(runs.N[largest], runs.D[largest]).extrapolation == pytest.approx(1.0)
