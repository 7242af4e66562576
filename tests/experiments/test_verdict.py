"""Verdicts: each of the four can occur, at the right side of its line, and intervals agree with scipy's."""

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.experiments.verdict import Claim, Estimate, over_seeds, overall

CLAIM = Claim("a law", "x = 1", "derived here")


def test_the_interval_over_seeds_is_students():
    values = [1.0, 1.3, 0.8, 1.1]
    found = over_seeds([*values, None, math.nan])
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found.interval == pytest.approx(expected)


def test_one_seed_has_no_standard_error_and_decides_nothing():
    assert over_seeds([1.0]).interval is None
    assert CLAIM.equals(over_seeds([1.0]), 1.0, 0.5, "").verdict == "undetermined"
    assert CLAIM.at_most(over_seeds([1.0]), 2.0, "").verdict == "undetermined"


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (1.04, 0.0, "holds"),
        (1.06, 0.0, "violated"),
        (1.04, 0.01, "holds"),
        (1.06, 0.02, "undetermined"),  # beyond the tolerance, but by less than its error
        (1.20, 0.02, "violated"),
        (1.00, 0.06, "undetermined"),  # half of the interval, 2.26 standard errors, is wider than the tolerance
        (1.00, 0.03, "undetermined"),
        (1.50, 0.06, "violated"),  # far outside, however wide
        (None, 0.0, "undetermined"),
    ],
)
def test_equality(value, error, verdict):
    assert CLAIM.equals(Estimate(value, error, 10), 1.0, 0.05, "").verdict == verdict


@pytest.mark.parametrize(
    ("value", "error", "most", "least"),
    [
        (0.9, 0.0, "holds", "violated"),
        (1.1, 0.0, "violated", "holds"),
        (0.9, 0.01, "holds", "violated"),
        (0.99, 0.01, "undetermined", "undetermined"),
        (1.0, 0.0, "holds", "holds"),
    ],
)
def test_bounds(value, error, most, least):
    measured = Estimate(value, error, 10)
    assert (CLAIM.at_most(measured, 1.0, "").verdict, CLAIM.at_least(measured, 1.0, "").verdict) == (most, least)


def test_a_run_that_never_entered_the_regime_is_neither_right_nor_wrong():
    for value in (1.0, 5.0):
        assert CLAIM.equals(Estimate(value), 1.0, 0.1, "", reached=False).verdict == "not_reached"


@pytest.mark.parametrize(
    ("place", "bracket", "verdict"),
    [
        (1.1, (1.0, 1.2), "holds"),
        (1.4, (1.1, 1.8), "undetermined"),  # the two runs around it leave room for the predicted place
        (1.7, (1.5, 1.9), "violated"),
        (None, None, "not_reached"),
    ],
)
def test_the_place_of_a_boundary_found_once(place, bracket, verdict):
    found = CLAIM.located([place], bracket, 1.0, 1.25, "")
    assert found.verdict == verdict
    assert (found.interval, found.interval_kind, found.error) == (bracket, "swept", None)
    assert (found.tolerance_kind, found.tolerance) == ("factor", 1.25)


@pytest.mark.parametrize(
    ("places", "verdict"),
    [
        ([1.05, 1.0, 1.1], "holds"),
        ([0.5, 1.0, 2.0], "undetermined"),  # right in the mean, known to no better than a factor of 3
        ([1.2, 1.3, 1.4], "undetermined"),  # beyond the factor by less than its interval reaches
        ([1.7, 1.71, 1.72], "violated"),
        ([1.0, 1.0, None], "undetermined"),  # a seed that never met it
        ([None, None], "not_reached"),
    ],
)
def test_the_place_of_a_boundary_over_seeds(places, verdict):
    assert CLAIM.located(places, (0.1, 9.0), 1.0, 1.25, "").verdict == verdict


def test_the_interval_of_a_boundary_over_seeds_is_students_in_logarithms():
    places = [1.6, 1.63, 2.07]
    found = CLAIM.located(places, (1.5, 2.0), 1.48, 1.5, "")
    logs = np.log(places)
    expected = np.exp(stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs)))
    assert found.interval == pytest.approx(tuple(expected))
    assert (found.interval_kind, found.measured) == ("confidence", pytest.approx(stats.gmean(places)))
    assert found.error == pytest.approx(stats.gmean(places) * stats.sem(logs))


def test_a_nan_is_no_value():
    for found in (
        CLAIM.equals(Estimate(math.nan), 1.0, 0.1, ""),
        CLAIM.at_most(Estimate(math.nan), 1.0, ""),
        CLAIM.at_least(Estimate(math.nan), 1.0, ""),
    ):
        assert (found.verdict, found.measured) == ("undetermined", None)
    assert CLAIM.located([math.nan], None, 1.0, 1.1, "").verdict == "not_reached"


def test_repetitions_that_differ_by_rounding_have_no_interval():
    found = CLAIM.equals(over_seeds([0.1 + 0.2, 0.3]), 0.3, 1e-9, "")
    assert (found.verdict, found.interval) == ("holds", None)


def finding(verdict, role="law"):
    return {"verdict": verdict, "role": role}


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([finding("holds"), finding("holds", "boundary"), finding("violated", "control")], "holds"),
        ([finding("holds"), finding("not_reached", "control")], "holds"),
        ([finding("holds"), finding("holds", "control")], "undetermined"),
        ([finding("holds"), finding("undetermined", "control")], "undetermined"),
        ([finding("holds"), finding("violated", "boundary")], "violated"),
        ([finding("undetermined"), finding("not_reached")], "undetermined"),
        ([finding("holds"), finding("not_reached", "boundary")], "not_reached"),
        ([], "undetermined"),
    ],
)
def test_the_verdict_on_a_whole_law_is_its_worst(findings, verdict):
    assert overall(findings) == verdict
