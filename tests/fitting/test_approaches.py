"""Proves the three approaches and their agreement on a known surface with a dense grid, and their refusals."""

import numpy as np
import pytest

from pipeline.fitting.approaches import Approach, agreement, three_approaches
from pipeline.fitting.estimators import L2
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.runs import Runs
from pipeline.fitting.uncertainty import bootstrap
from tests.fitting.measured_studies import ADDITIVE_TRUTH

SD = 0.001


@pytest.fixture(scope="module")
def dense():
    N, D = np.meshgrid(np.geomspace(1e4, 3e6, 24), np.geomspace(1e5, 1e8, 14))
    N, D = N.ravel(), D.ravel()
    L = ADDITIVE_TRUTH.loss(N, D) * np.exp(SD * np.random.default_rng(0).standard_normal(len(N)))
    return Runs.of(N, D, L)


def test_they_agree_on_the_truth_where_the_grid_is_dense(dense):
    fit = dense.fitted(Chinchilla, L2)
    found = agreement(three_approaches(fit, bootstrap(fit, dense.cell, 200, 0), dense, SD, 200, 0))
    assert [one.name for one in found.approaches] == ["envelope", "isoFLOP", "parametric"]
    assert found.verdict == "agree"
    for one in found.approaches:
        assert one.a == pytest.approx(ADDITIVE_TRUTH.size_exponent, abs=max(4 * one.standard_error, 0.02)), one.name


def test_a_grid_that_never_turns_gives_no_minimum_and_no_verdict():
    """At few tokens a parameter the smallest size is the best of every budget."""
    N, D = np.meshgrid(np.geomspace(1e6, 1e8, 6), np.geomspace(1e4, 1e6, 6))
    runs = Runs.of(N.ravel(), D.ravel(), ADDITIVE_TRUTH.loss(N, D).ravel())
    fit = runs.fitted(Chinchilla, L2)
    found = agreement(three_approaches(fit, None, runs, SD, 50, 0))
    assert [one.a for one in found.approaches] == [None, None, None]
    assert found.verdict == "undetermined"
    assert found.approaches[1].remark == "minima: 0; budgets refused: 12"


def test_exponents_apart_by_more_than_their_errors_disagree():
    apart = [Approach("isoFLOP", 0.50, (0.48, 0.52), ""), Approach("parametric", 0.56, (0.55, 0.57), "")]
    close = [Approach("isoFLOP", 0.54, (0.50, 0.58), ""), Approach("parametric", 0.56, (0.55, 0.57), "")]
    wide = [Approach("isoFLOP", 0.54, (0.30, 0.78), ""), Approach("parametric", 0.56, (0.55, 0.57), "")]
    assert [agreement(pair).verdict for pair in (apart, close, wide)] == ["disagree", "agree", "undetermined"]
    z = 0.06 / np.hypot(0.04 / 3.919928, 0.02 / 3.919928)
    assert agreement(apart).chi2 == pytest.approx(z**2, rel=1e-6)
