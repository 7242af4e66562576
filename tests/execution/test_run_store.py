"""Records appear whole or not at all, and a run that failed does not stand in the way of its next attempt."""

import numpy as np
import pytest

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import RunResult
from pipeline.planning.run_spec import RunSpec
from pipeline.storage import Damaged

SPEC = RunSpec("language_model", "trunk", {"width": 64}, 0, "data", "code", label="a run")
CURVE = {name: np.array([1.0, 2.0]) for name in ("tokens", "train_loss", "learning_rate_scale", "batch_tokens")}
NOTED = {"seconds": 3.0, "tokens": 100, "attempts": 1}


def finished():
    arrays = {"losses": np.arange(3, dtype=np.float32)}
    return RunResult("finished", None, {"loss": 2.5}, CURVE, arrays, 0, 100)


def started(root):
    store = RunStore(root)
    store.scratch(SPEC.run_id).mkdir(parents=True)
    (store.scratch(SPEC.run_id) / "checkpoint.safetensors").write_bytes(b"weights")
    return store


def test_the_life_of_a_run(tmp_path):
    store = RunStore(tmp_path)
    assert store.status(SPEC.run_id) is None
    store = started(tmp_path)
    assert store.status(SPEC.run_id) == "partial"
    store.add_failure(SPEC, "KeyError: 'x'")
    assert store.status(SPEC.run_id) == "failed"
    assert not store.settled(SPEC.run_id)
    store.add(SPEC, finished(), NOTED)
    assert store.status(SPEC.run_id) == "finished"
    assert store.result(SPEC.run_id)["scalars"] == {"loss": 2.5}
    assert store.curve(SPEC.run_id)["tokens"].to_list() == [1, 2]
    assert store.arrays(SPEC.run_id)["losses"].tolist() == [0, 1, 2]
    assert store.telemetry(SPEC.run_id)["seconds"] == 3.0
    assert not store.scratch(SPEC.run_id).exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON "),
        ("[]", "Input should be a valid dictionary"),
        ('{"seconds": -1, "tokens": 1, "attempts": 1}', "seconds: Input should be greater than or equal to 0"),
        ('{"seconds": NaN, "tokens": 1, "attempts": 1}', "seconds: Input should be a finite number"),
        ('{"seconds": "x", "tokens": 1, "attempts": 1}', "seconds: Input should be a valid number"),
        ('{"seconds": 1, "attempts": 1}', "tokens: Field required"),
        ('{"seconds": 1, "tokens": 1, "attempts": 1, "lost": [1]}', "lost: Input should be a valid integer"),
        ('{"seconds": 1, "tokens": 1, "attempts": 1, "finished_at": "x"}', "finished_at: Input should be a valid date"),
    ],
)
def test_telemetry_that_was_never_noted_is_named_with_what_to_do(tmp_path, text, told):
    store = started(tmp_path)
    store.add(SPEC, finished(), NOTED)
    path = tmp_path / f"telemetry/{SPEC.run_id}.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{path}: {told}.*; delete it, no result depends on it"):
        store.telemetry(SPEC.run_id)


def test_a_record_that_cannot_be_finished_does_not_appear(tmp_path):
    store = started(tmp_path)
    (store.scratch(SPEC.run_id) / "checkpoint.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="checkpoint"):
        store.add(SPEC, finished(), {"seconds": 3.0})
    assert store.status(SPEC.run_id) is None


def test_equal_runs_give_equal_bytes(tmp_path):
    records = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        store = started(tmp_path / name)
        store.add(SPEC, finished(), {"seconds": len(name) + len(records)})
        records.append({path.name: path.read_bytes() for path in store.folder(SPEC.run_id).iterdir()})
    assert records[0] == records[1]


def test_a_damaged_file_is_named_by_whoever_reads_it_and_the_record_makes_way(tmp_path):
    store = started(tmp_path)
    store.add(SPEC, finished(), {"seconds": 3.0})
    readers = {"result.json": store.result, "spec.json": store.spec, "curve.parquet": store.curve}
    readers["arrays.safetensors"] = store.arrays
    for name, read in readers.items():
        path = store.folder(SPEC.run_id) / name
        sound = path.read_bytes()
        path.write_bytes(sound + b" ")
        with pytest.raises(Damaged, match=rf"{name}: its sha256 is not .*run `make study`"):
            read(SPEC.run_id)
        assert store.damaged(SPEC.run_id).startswith(str(path))
        path.write_bytes(sound)
        read(SPEC.run_id)
    assert store.damaged(SPEC.run_id) is None
    (store.folder(SPEC.run_id) / "result.json").unlink()
    assert store.status(SPEC.run_id) == "damaged"
    assert not store.settled(SPEC.run_id)
    assert [store.set_aside(SPEC.run_id).name] == [f"{SPEC.run_id}-0"]
    assert store.status(SPEC.run_id) is None


def test_a_record_under_the_name_of_another_run_is_damaged(tmp_path):
    store, other = started(tmp_path), "0123456789abcdef"
    store.add(SPEC, finished(), {"seconds": 3.0})
    store.folder(SPEC.run_id).rename(store.folder(other))
    assert f"it is the spec of the run {SPEC.run_id}" in store.damaged(other)
    with pytest.raises(Damaged, match="it is the curve of another run"):
        store.curve(other)


@pytest.mark.parametrize("name", ["../0123456789abcd", "/etc", "", "0123456789ABCDEF", "0123456789abcde\n", None])
def test_what_is_no_run_id_names_no_file(tmp_path, name):
    store = RunStore(tmp_path, "s3://bucket")
    for ask in (store.folder, store.scratch, store.checkpoint, store.status, store.curve, store.set_aside):
        with pytest.raises(ValueError, match="is not 16 hexadecimal digits"):
            ask(name)


def test_what_a_dead_driver_left_of_a_run_that_has_its_record_goes_and_a_run_in_progress_stays(tmp_path):
    store = started(tmp_path)
    store.add(SPEC, finished(), {"seconds": 3.0})
    started(tmp_path)
    other = store.scratch("0" * 16)
    other.mkdir()
    store.tidy()
    assert not store.scratch(SPEC.run_id).exists()
    assert other.exists()
