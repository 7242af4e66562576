"""What follows from a waiver in a plan: against reachability in a random forest, found by matrix products."""

import random

import numpy as np
import pytest

from pipeline.planning.run_spec import RunSpec
from pipeline.planning.waivers import idle_waivers, read_waivers, waived_runs, write_waivers


def spec(name, parent=None):
    return RunSpec("a_law", "run", {"name": name}, 0, "", "code", parent, label=str(name))


def test_every_run_below_a_waived_one_is_waived_and_names_its_parent():
    draw, specs = random.Random(0), []
    for number in range(120):
        parent = draw.choice(specs).run_id if specs and draw.random() < 0.8 else None
        specs.append(spec(number, parent))
    place = {one.run_id: row for row, one in enumerate(specs)}
    step = np.eye(len(specs), dtype=int)
    for one in specs:
        if one.needs:
            step[place[one.needs], place[one.run_id]] = 1
    reached = np.linalg.matrix_power(step.astype(float), len(specs)) > 0
    waivers = {one.run_id: f"reason {one.label}" for one in draw.sample(specs, 6)} | {"f" * 16: "of another plan"}
    expected = {
        one.run_id for one in specs if any(reached[place[top], place[one.run_id]] for top in waivers if top in place)
    }
    shuffled = draw.sample(specs, len(specs))
    found = waived_runs(shuffled, waivers)
    assert found.keys() == expected
    assert len(waivers) < len(found) < len(specs)
    for one in specs:
        if one.run_id in waivers:
            assert found[one.run_id] == waivers[one.run_id]
        elif one.run_id in found:
            assert found[one.run_id] == f"its parent {one.needs} is waived"


def test_a_parent_outside_the_plan_counts():
    parent = spec("gone")
    child = spec("child", parent.run_id)
    assert waived_runs([child], {parent.run_id: "why"}) == {child.run_id: f"its parent {parent.run_id} is waived"}


def test_a_waiver_without_a_run_is_told_and_one_of_a_parent_outside_the_plan_is_not():
    parent = spec("gone")
    specs = [spec("child", parent.run_id), spec("other")]
    waivers = dict.fromkeys((parent.run_id, specs[1].run_id, "f" * 16, "a" * 16), "why")
    told = [f"waivers.json: {run_id * 16}: no planned run has this id" for run_id in "af"]
    assert idle_waivers(specs, waivers) == told


def test_what_is_written_comes_back_and_equal_waivers_give_equal_bytes(tmp_path):
    assert read_waivers(tmp_path) == {}
    write_waivers(tmp_path, {"b": "é <b>", "a": "x"})
    first = (tmp_path / "waivers.json").read_bytes()
    assert read_waivers(tmp_path) == {"a": "x", "b": "é <b>"}
    write_waivers(tmp_path, {"a": "x", "b": "é <b>"})
    assert (tmp_path / "waivers.json").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["waivers.json"]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ("3", "is not an object"), ('{"a": 1}', "a: 1 is not")]
)
def test_a_garbled_file_is_named(tmp_path, text, message):
    (tmp_path / "waivers.json").write_text(text)
    with pytest.raises(ValueError, match=rf"waivers\.json: .*{message}"):
        read_waivers(tmp_path)
