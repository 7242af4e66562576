"""Numbers as they are shown, against values written by hand."""

from __future__ import annotations

import pytest

from pipeline.reporting import numbers


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.significant(0.35449), "0.354"),
        (numbers.significant(1393.4), "1\u202f393"),
        (numbers.significant(2.6e-22, 2), "2.6×10⁻²²"),
        (numbers.significant(1e12, 1, scientific_from=1.0), "10¹²"),
        (numbers.significant(-0.5, 2), "−0.50"),
        (numbers.significant(None), "–"),
        (numbers.significant(float("nan")), "–"),
        (numbers.count(20_736), "20.7\u202fk"),
        (numbers.count(999_999), "1\u202fM"),
        (numbers.count(12), "12"),
        (numbers.percent(0.0116), "1.2\u202f%"),
        (numbers.factor(15.999), "16×"),
        (numbers.factor(454.9), "455×"),
        (numbers.duration(48.2), "48\u202fs"),
        (numbers.duration(328), "5\u202fmin 28\u202fs"),
        (numbers.duration(11_220), "3\u202fh 07\u202fmin"),
        (numbers.probability(0.9999), ">0.99"),
        (numbers.probability(0.0), "<10⁻⁹⁹"),
        (numbers.count(870_123, 2), "870\u202fk"),
        (numbers.interval(0.7712, 0.8523, 0.81), "[0.771, 0.852]"),
        (numbers.interval(132.9, 586.8, 279.6), "[133, 587]"),
        (numbers.interval(None, 1.0), "–"),
    ],
)
def test_shown_as_people_read_it(shown: str, expected: str) -> None:
    assert shown == expected
