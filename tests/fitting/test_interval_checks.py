"""Proves what is said of intervals: nothing of sound ones, and which standard errors a few resamples decide."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.external.published import Published, beside
from pipeline.fitting.estimators import Huber
from pipeline.fitting.interval_checks import cluster_cautions, enough_clusters, interval_cautions
from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.runs import Runs
from pipeline.fitting.solver import fit
from pipeline.fitting.uncertainty import bootstrap
from tests.fitting.measured_studies import ADDITIVE_TRUTH, study

RUNS = Runs.of(*study("S5"))


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
        assert [one.name for one in cluster_cautions(fitted, RUNS, clusters)] == ([] if enough else ["few_clusters"])
    assert not enough_clusters(fitted, None)
    assert cluster_cautions(fitted, RUNS, None) == []


@pytest.mark.parametrize(("shared", "told"), [(0.005, (18, 20)), (0.0, (0, 1))])
def test_runs_of_one_size_that_are_alike_are_told_unless_clusters_are_named(shared, told):
    """Twenty studies; without a shared offset one in a hundred would be told."""
    N, D = (part.ravel() for part in np.meshgrid(np.geomspace(3e7, 1e10, 6), np.geomspace(1e9, 3e11, 5)))
    size, count = np.unique(N, return_inverse=True)[1], 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        noise = shared * random.standard_normal(6)[size] + 0.002 * random.standard_normal(30)
        runs = Runs.of(N, D, Chinchilla(1.8, 480.0, 0.35, 2100.0, 0.37).loss(N, D) * np.exp(noise))
        one = runs.fitted(Chinchilla, Huber())
        names = [caution.name for caution in cluster_cautions(one, runs, None)]
        count += names == ["alike_within_size"]
        assert cluster_cautions(one, runs, np.arange(30)) == []
    assert told[0] <= count <= told[1]


def test_refits_that_did_not_end_are_told(fitted):
    draws = bootstrap(fitted, np.arange(len(fitted.points)), 100, 0)
    assert "unreached_resamples" not in [one.name for one in interval_cautions(fitted, draws)]
    some = replace(draws, unreached=7)
    assert "7 of 100 refits" in next(
        one.text for one in interval_cautions(fitted, some) if one.name == "unreached_resamples"
    )
