"""The order and the room of waiting runs: against sums done by hand, and against sorting everything anew each time."""

import random

from pipeline.execution.placement import Request
from pipeline.execution.queue import SHARES, SHORT_SECONDS, Queue
from pipeline.planning.bill import critical_path
from pipeline.planning.run_spec import RunSpec


def spec(name, seconds, parent=None):
    return RunSpec("a_law", "run", {"name": name}, 0, "", "code", parent, label=name, expected_seconds=seconds)


def queue_of(specs, **slots):
    seconds = {one.run_id: one.expected_seconds for one in specs}
    return Queue(critical_path(specs, seconds), seconds, lambda one: Request("CPU"), slots)


def test_a_long_run_has_a_slot_to_itself():
    specs = [spec(str(number), 10.0 + number) for number in range(5)]
    queue = queue_of(specs, CPU=2)
    for one in specs:
        queue.add(one)
    assert [one.label for one in queue.startable()] == ["4", "3"]
    assert not list(queue.startable())
    queue.vacate(specs[4])
    assert [one.label for one in queue.startable()] == ["2"]


def test_short_runs_share_a_slot_up_to_its_time_and_its_parts():
    instant = [spec(str(number), 0.0) for number in range(3 * SHARES)]
    tenths = [spec(str(number), SHORT_SECONDS / 10) for number in range(30)]
    for specs, fit in ((instant, SHARES), (tenths, SHARES // round(SHARES / 10))):
        queue = queue_of(specs, CPU=1)
        for one in specs:
            queue.add(one)
        assert len(list(queue.startable())) == fit


def test_short_runs_never_overtake_a_long_one():
    short, long = [spec(f"short {number}", 0.0) for number in range(SHARES)], spec("long", 9.0)
    queue = queue_of([*short, long], CPU=1)
    for one in short[1:]:
        queue.add(one)
    started = list(queue.startable())
    queue.add(long)
    queue.add(short[0])
    for one in started:
        assert not list(queue.startable())
        queue.vacate(one)
    assert [one.label for one in queue.startable()] == ["long"]
    queue.vacate(long)
    assert [one.label for one in queue.startable()] == ["short 0"]


def test_a_random_tree_starts_in_the_order_of_sorting_it_anew():
    draw, specs = random.Random(0), []
    for number in range(300):
        parent = draw.choice(specs).run_id if specs and draw.random() < 0.6 else None
        specs.append(spec(str(number), draw.uniform(1.0, 2.0), parent))
    longest = critical_path(specs, {one.run_id: one.expected_seconds for one in specs})
    queue, waiting, done, order = queue_of(specs, CPU=1), list(specs), set(), []
    for one in specs:
        if one.needs:
            queue.wait(one, one.needs)
        else:
            queue.add(one)
    while started := list(queue.startable()):
        ready = [one for one in waiting if one.needs is None or one.needs in done]
        assert started == [max(ready, key=lambda one: longest[one.run_id])]
        order += started
        waiting.remove(started[0])
        done.add(started[0].run_id)
        queue.vacate(started[0])
        for child in queue.children(started[0].run_id):
            queue.add(child)
    assert len(order) == len(specs)


def test_runs_share_a_gpu_by_their_parts_of_it():
    specs = [spec(str(number), 10.0 + number) for number in range(40)]
    seconds = {one.run_id: one.expected_seconds for one in specs}
    large = {one.run_id for one in specs[35:]}
    queue = Queue(
        critical_path(specs, seconds), seconds, lambda one: Request("GPU", 1 if one.run_id in large else 4), {"GPU": 2}
    )
    for one in specs:
        queue.add(one)
    assert [one.label for one in queue.startable()] == ["39", "38"]
    for one in specs[38:]:
        queue.vacate(one)
    assert [one.label for one in queue.startable()] == ["37", "36"]
    queue.vacate(specs[37])
    assert [one.label for one in queue.startable()] == ["35"]
    queue.vacate(specs[36])
    queue.vacate(specs[35])
    assert [one.label for one in queue.startable()] == [str(number) for number in range(34, 26, -1)]
