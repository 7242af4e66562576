"""Slopes and crossings of known curves."""

import numpy as np
import polars as pl
import pytest

from pipeline.experiments.sweep import (
    crossing,
    crossings_over_seeds,
    estimate_of,
    greatest,
    local_slopes,
    log_slope,
    mean_over_seeds,
    slope_over_seeds,
    worst,
)
from pipeline.experiments.verdict import Claim, Estimate

CLAIM = Claim("several members", "all of them", "")
X = np.geomspace(1, 100, 9)


def test_a_power_law_has_its_exponent_everywhere():
    assert log_slope(X, 3 * X**-0.7) == pytest.approx(-0.7)
    assert local_slopes(X, 3 * X**-0.7) == pytest.approx((-0.7, -0.7))


def test_a_bend_shows_in_the_local_slopes():
    low, high = local_slopes(X, 1 / X + 0.05)
    assert low < high - 0.2


def test_the_slope_over_seeds_has_the_spread_of_the_seeds():
    exponents = [-0.5, -0.6, -0.55]
    runs = pl.concat([pl.DataFrame({"seed": seed, "x": X, "y": X**a}) for seed, a in enumerate(exponents)])
    found = slope_over_seeds(runs, "x", "y")
    assert found.value == pytest.approx(np.mean(exponents))
    assert found.error == pytest.approx(np.std(exponents, ddof=1) / np.sqrt(3))


def test_a_crossing_of_a_power_law_is_exact_whatever_the_order():
    place, bracket = crossing(X[::-1], (X**2)[::-1], 50.0)
    assert place == pytest.approx(np.sqrt(50))
    assert bracket[0] < place < bracket[1]


def test_every_seed_crosses_where_its_own_curve_does():
    runs = pl.concat(
        [pl.DataFrame({"seed": seed, "x": X, "y": by / X}) for seed, by in ((2, 9.0), (1, 0.5), (0, 20.0))]
    )
    found = crossings_over_seeds(runs, "x", "y", 1.0)
    assert found == {0: pytest.approx(20), 1: None, 2: pytest.approx(9)}


def test_a_curve_that_stays_on_one_side_has_no_crossing():
    assert crossing(X, X, 1000.0) == (None, None)


def test_values_that_are_not_finite_are_not_crossed():
    assert crossing([1.0, 2.0, 3.0], [0.5, np.inf, 2.0], 1.0) == (None, None)


def test_the_mean_over_seeds_carries_its_standard_error():
    runs = pl.DataFrame({"seed": [0, 1, 0, 1], "x": [2, 2, 1, 1], "y": [1.0, 3.0, 5.0, 5.0]})
    table = mean_over_seeds(runs, "x", "y")
    assert table["x"].to_list() == [1, 2]
    second = estimate_of(table.row(1, named=True), "y")
    assert (second.value, second.error, second.num) == (2.0, pytest.approx(1.0), 2)


def test_seeds_that_diverged_are_no_repetitions():
    runs = pl.DataFrame(
        {"seed": [0, 1, 2] * 3, "x": [1] * 3 + [2] * 3 + [3] * 3, "y": [1.0, 3.0, None] + [2.0] + [None] * 5}
    )
    two, one, none = (estimate_of(row, "y") for row in mean_over_seeds(runs, "x", "y").iter_rows(named=True))
    assert (two.num, two.interval) == (2, pytest.approx((2 - 12.7062, 2 + 12.7062), rel=1e-5))
    assert (one.value, one.error, one.interval) == (2.0, np.inf, None)
    assert (none.value, none.interval) == (None, None)


@pytest.mark.parametrize("unknown", [None, np.nan])
def test_the_greatest_of_values_is_unknown_where_one_is(unknown):
    assert greatest([0.3, 0.1]) == Estimate(0.3)
    assert greatest([unknown, 0.1]).value is greatest([0.1, unknown]).value is greatest([]).value is None


KNOWN, WIDE, FAR, UNKNOWN = Estimate(0.1, 0.01, 4), Estimate(0.52, 0.3, 4), Estimate(-0.3, 0.05, 4), Estimate(np.nan)


@pytest.mark.parametrize(
    ("members", "verdict", "value"),
    [
        ([KNOWN, Estimate(0.5, 0.01, 4)], "holds", 0.1),
        ([KNOWN, WIDE], "undetermined", 0.52),
        ([WIDE, UNKNOWN, KNOWN], "undetermined", None),
        ([FAR, WIDE, UNKNOWN], "violated", -0.3),
        ([FAR, Estimate(-0.9, 0.05, 4)], "violated", -0.9),
    ],
)
def test_the_worst_verdict_decides_and_then_the_least_room(members, verdict, value):
    for order in (members, members[::-1]):
        found = worst(CLAIM.at_least(one, 0.0, "") for one in order)
        assert (found.verdict, found.measured) == (verdict, value)


def test_the_room_within_a_tolerance_counts_in_units_of_it():
    near, far = CLAIM.equals(Estimate(1.01), 1.0, 0.02, ""), CLAIM.equals(Estimate(1.02), 1.0, 0.1, "")
    single = CLAIM.equals(Estimate(1.0, np.inf), 1.0, 0.1, "")
    assert worst([far, near]) == near
    assert worst([far, near, single]) == single
