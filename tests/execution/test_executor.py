"""Plans carried out on a real Ray session: every kind of failure, and the same bits whatever happened on the way."""

import json
import os
import signal
from dataclasses import replace

import psutil
import pytest
from ruamel.yaml import YAML

from pipeline.execution.executor import Executor, Policy
from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import step
from pipeline.planning.bill import critical_path
from tests.execution.conftest import blowing_up, broken, make_specs
from tests.experiments.laws.bench import read_laws
from tests.small_study import LAW


def carry_out(specs, root, cluster, tokens, watch=None, seconds=60.0):
    root.mkdir(exist_ok=True)
    store, events = RunStore(root), []
    watchers = [events.append, *([watch] if watch else [])]
    costs = {spec.run_id: spec.flops for spec in specs}
    failed = Executor(specs, store, cluster, Policy(tokens, 8192, seconds, retries=2), watchers, costs).run()
    return store, events, failed


def kill_workers():
    """Kills every process that is carrying out a run; returns their numbers."""
    children = psutil.Process().children(recursive=True)
    working = [child.pid for child in children if child.name() == "ray::_events"]
    for pid in working:
        os.kill(pid, signal.SIGKILL)
    return working


def record(root):
    """Every byte of the run store."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "runs").rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def quiet(specs, cluster, tokens, tmp_path_factory):
    """The store of an undisturbed study."""
    root = tmp_path_factory.mktemp("quiet")
    store, events, failed = carry_out(specs, root, cluster, tokens)
    assert not failed
    return store, events


def test_every_run_of_the_plan_gets_a_record(quiet, specs):
    store, _ = quiet
    for spec in specs:
        result = store.result(spec.run_id)
        assert result["status"] == "finished"
        assert ("loss" in result["scalars"]) == (spec.kind != "trunk")
        assert json.loads((store.folder(spec.run_id) / "spec.json").read_text())["label"] == spec.label
        assert store.curve(spec.run_id)["tokens"].is_sorted()
        assert store.telemetry(spec.run_id)["tokens_per_second"] > 0
    assert not any((store.root / "scratch").iterdir())


def test_longest_chains_start_first(quiet, specs):
    _, events = quiet
    chains = critical_path(specs, {spec.run_id: spec.flops for spec in specs})
    started = [event.spec for event in events if event.kind == "started"]
    roots = [spec for spec in started if not spec.needs]
    assert roots == sorted(roots, key=lambda spec: -chains[spec.run_id])
    done = set()
    for event in events:
        if event.kind == "started":
            assert event.spec.needs is None or event.spec.needs in done
        elif event.kind == "finished":
            done.add(event.spec.run_id)


def test_a_second_pass_trains_nothing(quiet, specs, cluster, tokens):
    store, _ = quiet
    before = record(store.root)
    _, events, failed = carry_out(specs, store.root, cluster, tokens)
    assert (events, failed) == ([], {})
    assert record(store.root) == before


def test_a_larger_grid_trains_only_what_is_new(quiet, specs, facts, cluster, tokens, tmp_path):
    store, _ = quiet
    (tmp_path / "study").mkdir()
    for name, data in record(store.root).items():
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    more = make_specs(facts, tokens=(30_000, 60_000, 120_000))
    _, events, _ = carry_out(more, tmp_path / "study", cluster, tokens)
    trained = {event.spec.run_id for event in events if event.kind == "finished"}
    assert trained == {spec.run_id for spec in more} - {spec.run_id for spec in specs}
    assert len(trained) == 4
    after = record(tmp_path / "study")
    assert all(after[name] == data for name, data in record(store.root).items())


def test_a_killed_worker_costs_nothing_but_time(facts, cluster, tokens, tmp_path):
    specs, killed = make_specs(facts, widths=[64], tokens=[170_000]), []

    def kill_once(event):
        saved = tmp_path / "killed" / "scratch" / event.spec.run_id / "checkpoint.safetensors"
        if event.kind == "progress" and not killed and saved.exists():
            killed.extend(kill_workers())

    quiet, _, _ = carry_out(specs, tmp_path / "quiet", cluster, tokens)
    store, events, failed = carry_out(specs, tmp_path / "killed", cluster, tokens, kill_once, seconds=0.3)
    assert killed
    assert not failed
    assert [event.spec.kind for event in events if event.kind == "retried"] == ["trunk"]
    assert store.telemetry(specs[0].run_id)["attempts"] == 2
    assert store.telemetry(specs[0].run_id)["resumed_from_tokens"] > 0
    assert record(store.root) == record(quiet.root)


def test_a_diverged_run_is_a_result_and_takes_its_children_along(facts, cluster, tokens, tmp_path):
    store, _, failed = carry_out(blowing_up(facts), tmp_path / "study", cluster, tokens)
    assert not failed
    reasons = {spec.kind: store.result(spec.run_id)["reason"] for spec in blowing_up(facts)}
    assert reasons["trunk"].startswith("training loss")
    assert reasons["cooldown"].endswith("diverged: " + reasons["trunk"])
    assert all(store.status(spec.run_id) == "diverged" for spec in blowing_up(facts))
    _, again, _ = carry_out(blowing_up(facts), tmp_path / "study", cluster, tokens)
    assert not again


def test_a_bug_fails_its_run_and_lets_the_others_go_on(quiet, specs, facts, cluster, tokens, tmp_path):
    both = broken(facts) + specs[:2]
    store, _, failed = carry_out(both, tmp_path / "study", cluster, tokens)
    assert set(failed) == {spec.run_id for spec in broken(facts)}
    assert all(store.status(spec.run_id) == "finished" for spec in specs[:2])
    trunk, cooldown = broken(facts)
    assert "Traceback" in store.result(trunk.run_id)["reason"]
    assert "is not the planned another" in failed[trunk.run_id]
    assert failed[cooldown.run_id] == f"its parent {trunk.run_id} failed"
    assert not store.settled(trunk.run_id)


@pytest.fixture
def short(tmp_path):
    """The runs of a law with the cheapest dials, all of them said to take no time, so that many share a slot."""
    dials = YAML(typ="safe").load(LAW)["laws"]["deep_linear"]
    settings = read_laws(tmp_path, {"deep_linear": dials}).laws.tested["deep_linear"]
    return step("deep_linear", "plan")(settings, None)


def test_short_runs_are_with_their_workers_before_these_are_free(short, cluster, tokens, tmp_path):
    store, events, failed = carry_out(short, tmp_path / "study", cluster, tokens)
    assert not failed
    assert all(store.status(spec.run_id) == "finished" for spec in short)
    kinds = [event.kind for event in events]
    assert kinds.count("started") == kinds.count("finished") == len(short) > cluster.capacity.cpus
    assert kinds.index("finished") > cluster.capacity.cpus


def test_killing_every_worker_loses_no_short_run(short, cluster, tokens, tmp_path):
    killed = []

    def kill_once(event):
        if event.kind == "finished" and not killed:
            killed.extend(kill_workers())

    quiet, _, _ = carry_out(short, tmp_path / "quiet", cluster, tokens)
    store, _, failed = carry_out(short, tmp_path / "killed", cluster, tokens, kill_once)
    assert killed
    assert not failed
    assert record(store.root) == record(quiet.root)


def test_children_of_a_run_that_is_nowhere_fail_by_name(specs, cluster, tokens, tmp_path):
    child = next(spec for spec in specs if spec.needs)
    store, _, failed = carry_out([child], tmp_path / "study", cluster, tokens)
    assert failed == {child.run_id: f"its parent {child.needs} has no record"}
    assert store.status(child.run_id) is None


def test_a_failed_root_takes_a_long_chain_along(cluster, facts, tokens, tmp_path):
    """Two thousand runs deep: farther than Python nests calls."""
    chain = broken(facts)[:1]
    while len(chain) < 2000:
        chain.append(replace(chain[0], parent_id=chain[-1].run_id))
    _, events, failed = carry_out(chain, tmp_path / "study", cluster, tokens)
    assert len(failed) == len(chain)
    assert [event.spec for event in events if event.kind == "failed"] == chain
