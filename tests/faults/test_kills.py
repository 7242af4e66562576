"""A few of the random kills of kills.py: the study ends as if nothing had happened, and the tally can tell when not."""

import random
from collections import Counter

import pytest

from tests.faults.kills import EVERY_STAGE, VICTIMS, Tally, campaign, differences, draw_kill
from tests.faults.project import record


@pytest.mark.timeout(900)
def test_six_kills_lose_nothing(timed, tmp_path):
    quiet, seconds = timed
    tally = campaign(quiet, seconds, tmp_path, kills=6, seed=9)
    assert not tally.wrong, tally.table()
    assert tally.struck.total() == 6


def test_every_victim_and_stage_is_drawn():
    draw = random.Random(0)
    drawn = Counter((kill.victim, kill.stage) for kill in (draw_kill(draw) for _ in range(2000)))
    expected = {
        (victim, stage) for victim in VICTIMS for stage in EVERY_STAGE if victim in VICTIMS[:2] or stage == "train"
    }
    assert drawn.keys() == expected


def test_a_tally_shows_what_was_lost(quiet, tmp_path):
    (tmp_path / "runs").mkdir()
    lost = differences(tmp_path, quiet)
    assert {f"{name} differs" for name in record(quiet)} <= set(lost)
    assert "results/runs.parquet differs" in lost
    assert "2 violations" in Tally(wrong=lost[:2]).table()
