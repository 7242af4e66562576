"""Proves what is said of intervals: nothing of sound ones, and which standard errors a few resamples decide."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.external.published import Published, beside
from pipeline.fitting.estimators import Huber
from pipeline.fitting.interval_checks import cluster_cautions, enough_clusters, interval_cautions
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.solver import fit
from pipeline.fitting.uncertainty import bootstrap
from tests.fitting.measured_studies import ADDITIVE_TRUTH, study


@pytest.fixture(scope="module")
def fitted():
    N, D, _ = study("S5")
    noise = 0.001 * np.random.default_rng(1).standard_normal(len(N))
    return fit(Chinchilla, N, D, ADDITIVE_TRUTH.loss(N, D) * np.exp(noise), Huber())


@pytest.fixture(scope="module")
def draws(fitted):
    return bootstrap(fitted, np.arange(len(fitted.points)), 2000, 0)


def test_one_wild_resample_is_told_and_published_numbers_are_held_against_the_interval(fitted, draws):
    assert interval_cautions(fitted, draws) == []
    theta = draws.theta.copy()
    theta[7, draws.form.parameters().index("B")] += np.log(1e9)
    wild = replace(draws, theta=theta)
    (told,) = interval_cautions(fitted, wild)
    assert told.name == "wild_resamples"
    assert told.text.startswith("the standard error of B is larger than the whole 95 % interval")
    ours = {"B": (fitted.law.B, wild.standard_errors()["B"], wild.intervals()["B"])}
    (row,) = beside(Published("a paper", {"B": 100 * fitted.law.B}), ours)["rows"]
    low, high = wild.intervals()["B"]
    assert row["standard_errors"] == pytest.approx(-99 * fitted.law.B / ((high - low) / 3.919928))


def test_clusters_need_three_more_than_parameters(fitted):
    n, k = len(fitted.points), len(fitted.theta)
    for number, enough in ((k, False), (k + 2, False), (k + 3, True)):
        clusters = np.arange(n) % number
        assert enough_clusters(fitted, clusters) is enough
        assert [one.name for one in cluster_cautions(fitted, clusters)] == ([] if enough else ["few_clusters"])
    assert not enough_clusters(fitted, None)
    assert cluster_cautions(fitted, None) == []
