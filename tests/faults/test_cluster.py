"""The study on a cluster of several nodes, parts of which are killed under it: the same bytes as undisturbed."""

import json

import psutil
import pytest
from ray.cluster_utils import Cluster as Nodes

from pipeline.execution.cluster import Cluster
from pipeline.execution.placement import num_workers
from tests.faults.project import make_troubled, of_stage, output_of, record, run_stage, say, start, study, wait_for

STORE_BYTES = 80 << 20
"""The least object store that Ray accepts, nearly."""
HEAD = {"include_dashboard": False, "_system_config": {"worker_niceness": 0}}
"""Workers with the priority of any other program, as in a session of the study's own."""


@pytest.fixture
def nodes():
    """A head that carries out nothing, and two nodes with a core each."""
    cluster = Nodes(initialize_head=True, head_node_args=HEAD | {"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    yield cluster
    cluster.shutdown()


def processes_below(node):
    """The processes of a node that are carrying out a run at this moment."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [child for child in raylet.children(recursive=True) if child.name() == "ray::_events"]


def held(node):
    """A process of the node, stopped while it carries out a run."""
    found = []

    def hold():
        for process in processes_below(node):
            process.suspend()
            if process.name() == "ray::_events":
                found.append(process)
                return True
            process.resume()
        return False

    wait_for(hold, "run on the node")
    return found[0]


def strike(blow, folder, printed):
    """Repeats `blow` until a run was lost by it: a run struck while it hands over its result loses nothing."""
    before = retried(printed)
    while retried(printed) == before:
        done = finished(folder)
        blow()
        wait_for(lambda done=done: retried(printed) > before or finished(folder) > done + 1, "news of the run")


def retried(printed):
    return printed.read_text().count("  retry ")


def finished(folder):
    return len(list(folder.glob("runs/*/result.json")))


def lost(folder):
    """Workers lost in all runs of a study, as its telemetry says."""
    return sum(json.loads(path.read_text())["lost"] for path in (folder / "telemetry").glob("*.json"))


def same_tables(folder, quiet):
    run_stage(folder, "collect")
    names = ("runs.parquet", "curves.parquet")
    return all((folder / "results" / name).read_bytes() == (quiet / "results" / name).read_bytes() for name in names)


def test_a_killed_worker_and_a_killed_node_cost_nothing_but_time(nodes, planned, quiet, tmp_path):
    printed = tmp_path / "printed"

    first, second = nodes.worker_nodes

    def remove_second():
        nonlocal second
        process = held(second)
        nodes.remove_node(second, allow_graceful=False)
        process.kill()  # a node takes what runs on it along, and one that is stopped could not end by itself
        second = nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    with printed.open("w") as output:
        driver = start(planned, *of_stage("train"), output=output, RAY_ADDRESS=nodes.address)
        wait_for(lambda: finished(planned), "finished run")
        strike(lambda: held(first).kill(), planned, printed)
        strike(remove_second, planned, printed)
        output_of(driver)
    assert driver.returncode == 0, printed.read_text()
    assert retried(printed) == lost(planned) >= 2
    assert record(planned) == record(quiet)
    assert same_tables(planned, quiet)


@pytest.mark.timeout(600)
def test_without_its_head_the_driver_ends_in_one_line_and_the_next_goes_on(nodes, planned, quiet):
    driver = start(planned, *of_stage("train"), RAY_ADDRESS=nodes.address)
    wait_for(lambda: finished(planned), "finished run")
    nodes.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
    printed = output_of(driver)
    assert driver.returncode == 1, printed
    assert "Traceback" not in printed
    last = printed.strip().splitlines()[-1]
    assert last.startswith("error: ray: the cluster is gone (")
    assert last.endswith("finished runs are kept, run the study again")
    kept = record(planned)
    assert kept

    again = Nodes(initialize_head=True, head_node_args=HEAD | {"num_cpus": 2})
    try:
        printed = run_stage(planned, "train", RAY_ADDRESS=again.address)
    finally:
        again.shutdown()
    assert ", 0 reused" not in printed
    assert record(planned).items() >= kept.items()
    assert record(planned) == record(quiet)


def test_a_full_object_store_stops_nothing(nodes, quiet, tmp_path):
    """Six results of 64 MB each through stores of 80 MB."""
    kinds = [f"large{number}" for number in range(6)]
    folder = make_troubled(tmp_path, *kinds)
    (folder / "data").symlink_to(quiet / "data")
    code, printed = study(folder, "laws", "--run", "troubled", RAY_ADDRESS=nodes.address)
    assert code == 0, printed
    assert "6 runs planned: 6 new, 0 reused" in printed
    curves = {(path.parent / "arrays.safetensors").exists() for path in folder.glob("runs/*/curve.parquet")}
    assert curves == {True}
    assert len(list(folder.glob("runs/*/result.json"))) == 6


def test_runs_ask_for_gpus_and_find_the_same_numbers(planned, quiet):
    """Two GPUs that Ray alone knows: what asks for them gets them, one process a run, and trains on the processor."""
    text = (planned / "params.yaml").read_text()
    smaller = text.replace("widths: [16, 32], tokens: [20_000, 40_000, 80_000]", "widths: [16], tokens: [20_000]")
    assert smaller != text
    (planned / "params.yaml").write_text(smaller.replace("seeds: [1]", "seeds: []"))
    run_stage(planned, "plan")
    cluster = Nodes(initialize_head=True, head_node_args=HEAD | {"num_cpus": 2, "num_gpus": 2})
    try:
        printed = run_stage(planned, "train", RAY_ADDRESS=cluster.address)
    finally:
        cluster.shutdown()
    assert "2 runs planned: 2 new, 0 reused" in printed
    facts = [json.loads(path.read_text()) for path in (planned / "telemetry").glob("*.json")]
    assert {one["device"] for one in facts} == {"cuda"}
    assert record(planned).items() <= record(quiet).items()
    assert len({name.split("/")[1] for name in record(planned)}) == 2


@pytest.mark.parametrize("text", ["0", "two", "-1", "1.5", "²", " "])
def test_workers_that_are_no_number_are_refused(text, monkeypatch):
    monkeypatch.setenv("STUDY_WORKERS", text)
    with pytest.raises(ValueError, match=r"environment: STUDY_WORKERS: .* is not a positive whole number"):
        num_workers()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "RAY_ADDRESS: '127.0.0.1:1': nothing answers there"),
        ("127.0.0.1:99999", "RAY_ADDRESS: '127.0.0.1:99999': nothing answers there"),
        ("ray://127.0.0.1:10001", "is for a Ray client"),
        ("nonsense", r"RAY_ADDRESS: 'nonsense' cannot be joined .*; if the cluster asks .* set RAY_AUTH_MODE=token"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(address, message, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises((ValueError, OSError), match=message) as caught, Cluster():
        pass
    assert "\n" not in str(caught.value)


def test_a_cluster_without_a_core_is_refused(planned):
    empty = Nodes(initialize_head=True, head_node_args=HEAD | {"num_cpus": 0})
    address = empty.address
    try:
        code, printed = say(planned, *of_stage("train"), RAY_ADDRESS=address)
    finally:
        empty.shutdown()
    assert code == 1
    assert f"error: environment: RAY_ADDRESS: '{address}' has no CPU for a run" in printed
    assert "Traceback" not in printed
