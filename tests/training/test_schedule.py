"""Batch and rate as functions of tokens, against their formulas; forks that do not depend on what else is planned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import Batch
from pipeline.training.schedule import Course, batch_tokens, branch, step_boundary

BATCH = Batch(tokens=256, growth_from=60_000, growth_power=0.5)


def test_the_batch_grows_with_the_square_root_of_the_tokens():
    assert batch_tokens(BATCH, 64, 0) == 256
    assert batch_tokens(BATCH, 64, 60_000) == 256
    assert batch_tokens(BATCH, 64, 240_000) == 512
    assert batch_tokens(BATCH, 64, 960_000) == 1024


@given(st.integers(1_000, 2_000_000))
def test_a_fork_lies_on_the_trunks_own_steps(tokens):
    fork = step_boundary(BATCH, 64, tokens)
    now = 0
    while now < fork:
        now += batch_tokens(BATCH, 64, now)
    assert now == fork
    assert abs(fork - tokens) <= batch_tokens(BATCH, 64, fork) / 2


@given(st.integers(20_000, 5_000_000), st.floats(0.05, 0.5))
def test_a_branch_ends_near_where_it_was_asked_to(tokens, fraction):
    fork, end = branch(BATCH, 64, tokens, fraction)
    size = batch_tokens(BATCH, 64, fork)
    assert (end - fork) % size == 0
    assert abs(end - tokens) <= size / 2 + 1
    assert abs(fork - (1 - fraction) * tokens) <= size / 2 + 1


def test_rates_warm_up_stay_and_cool_down():
    course = Course("linear", warmup=1000, fork=8000, end=10_000)
    assert course.rate_factor(0, 250) == 0.25
    assert course.rate_factor(750, 250) == 1.0
    assert course.rate_factor(7999, 250) == 1.0
    assert course.rate_factor(8000, 250) == 1.0
    assert course.rate_factor(9000, 250) == 0.5
    assert course.rate_factor(9750, 250) == pytest.approx(0.125)
    assert Course("constant", 1000, 8000, 8000).rate_factor(9000, 250) == 1.0


def test_the_cosine_falls_from_one_to_zero_over_its_own_length():
    course = Course("cosine", warmup=1000, fork=11_000, end=11_000)
    assert course.rate_factor(1000, 100) == 1.0
    assert course.rate_factor(6000, 100) == pytest.approx(0.5)
    assert course.rate_factor(10_999, 100) == pytest.approx(0.0, abs=1e-6)
