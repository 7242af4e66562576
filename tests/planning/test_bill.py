"""The bill adds up: against sums done by hand on a small tree."""

import pytest

from pipeline.planning.bill import critical_path, draw_bill
from pipeline.planning.run_spec import RunSpec


def spec(name, flops, parent=None):
    return RunSpec("language_model", "trunk", {"name": name}, 0, "data", "code", parent, label=name, flops=flops)


ROOT = spec("root", 10.0)
LEFT, RIGHT = spec("left", 20.0, ROOT.run_id), spec("right", 5.0, ROOT.run_id)
LEAF = spec("leaf", 7.0, RIGHT.run_id)
ALL = [LEAF, LEFT, ROOT, RIGHT]


def test_chains_are_as_long_as_their_longest_branch():
    paths = critical_path(ALL, {s.run_id: s.flops for s in ALL})
    assert [paths[s.run_id] for s in (ROOT, LEFT, RIGHT, LEAF)] == [30.0, 20.0, 12.0, 7.0]


def test_a_bill_counts_new_and_reused_runs_with_reasons():
    held = {ROOT.run_id: "finished", LEFT.run_id: "diverged", RIGHT.run_id: "partial"}
    bill = draw_bill(ALL, held.get, lambda s: 60 * s.flops, workers=2, basis="a test")
    assert [line.spec.label for line in bill.new] == ["leaf", "right"]
    assert bill.minutes == pytest.approx(12.0)
    text = bill.text()
    assert "4 runs planned: 2 new, 2 reused" in text
    assert "to spend: 12 FLOPs, about 12.0 minutes on 2 workers (a test)" in text
    assert "reused:   30 FLOPs" in text
    assert "right: it was interrupted and goes on" in text
    assert "leaf: there is no record of it" in text


def test_the_runs_of_a_law_are_one_line():
    laws = [RunSpec("a_law", "sweep", {"value": value}, 0, "", "code", expected_seconds=3.0) for value in range(30)]
    text = draw_bill([*ALL, *laws], lambda _: None, lambda s: s.expected_seconds, workers=2, basis="").text()
    assert "34 runs planned: 34 new, 0 reused" in text
    assert "new  30 runs of a_law, 90 s of one core" in text
    assert text.count("there is no record of it") == len(ALL)


def test_many_short_runs_share_the_workers():
    specs = [spec(str(i), 1.0) for i in range(10)]
    assert draw_bill(specs, lambda _: None, lambda _: 60.0, workers=5, basis="").minutes == pytest.approx(2.0)


def test_runs_that_are_left_out_are_counted_with_what_keeps_them_out():
    bill = draw_bill(ALL, {}.get, lambda _: 1.0, workers=1, basis="", left_out={"waived": 2, "held up by a failure": 1})
    assert bill.summary == "7 runs planned: 4 new, 0 reused, 2 waived, 1 held up by a failure"
