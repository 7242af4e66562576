"""What runs are expected to take: every size of a study, however large, from few that are timed."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.execution.run_store import RunStore
from pipeline.execution.throughput import Throughput
from pipeline.experiments.language_model.measure import MOST_TIMED, USUAL_PART, measure
from pipeline.planning.run_spec import RunSpec
from pipeline.training.device import prepare_device
from pipeline.training.peak import matrix_product_rate
from tests.execution.conftest import make_specs

WIDTHS = range(16, 16 * 2 * MOST_TIMED, 16)
"""One size between each two that are timed."""


def sizes_of(facts, widths):
    """A spec for each width."""
    specs = make_specs(facts, widths=widths, tokens=[30_000])
    return [next(spec for spec in specs if spec.settings["width"] == width) for width in widths]


def test_sizes_between_timed_ones_get_a_rate_between_theirs(facts):
    rates = np.log(measure(sizes_of(facts, WIDTHS)))
    assert len(rates) == 2 * MOST_TIMED - 1
    for left, middle, right in zip(rates[:-2:2], rates[1:-1:2], rates[2::2], strict=True):
        assert min(left, right) < middle < max(left, right)


def test_a_model_that_would_not_fit_here_is_not_built(facts):
    small, huge = sizes_of(facts, [32, 65_536])
    first, second = measure([small, huge])
    assert first == second > 0
    assert measure([huge]) == [USUAL_PART * matrix_product_rate(prepare_device())]


def test_a_stored_run_tells_of_its_model_and_the_others_are_timed(facts, tmp_path):
    known, unknown = sizes_of(facts, [16, 32])
    store = RunStore(tmp_path)
    (tmp_path / "telemetry").mkdir()
    (tmp_path / f"telemetry/{known.run_id}.json").write_text('{"seconds": 2.0, "tokens": 9, "attempts": 1}')
    law = RunSpec("a_law", "run", {}, 0, "", "code", expected_seconds=3.0)
    expected = Throughput([known, unknown, law], store)
    assert expected.seconds(known) == 2.0
    assert expected.seconds(replace(known, flops=3 * known.flops)) == pytest.approx(6.0)
    assert expected.seconds(law) == 3.0
    assert expected.seconds(unknown) > 0
