"""Proves that an estimator which no solver can serve is refused by name where it is made.

Reference: the solvers, of which that of L1 knows a symmetric rule on ln L alone.
"""

import pytest

from pipeline.fitting.estimators import L1, Estimator


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": "l1", "space": "linear"}, "estimator: space: 'linear' given, but l1 is fitted in log space alone"),
        ({"kind": "l1", "above": 0.25}, "estimator: above: 0.25 given, but l1 counts runs above the law like all"),
        ({"kind": "huber", "delta": 0.0}, "estimator: delta: 0.0 is not positive"),
        ({"kind": "l2", "above": 2.0}, r"estimator: above: 2.0 is not in \(0, 1\]"),
    ],
)
def test_an_estimator_that_cannot_be(settings, told):
    with pytest.raises(ValueError, match=told):
        Estimator(**settings)


def test_those_that_can_be_are_made():
    assert Estimator("l1") == L1
    assert Estimator("l2", above=0.5, space="linear").text.startswith("L2 (least squares) on L, summed over runs, runs")
