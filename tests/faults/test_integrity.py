"""Every file that a study lives on, flipped or cut anywhere: found, named, made again to the same bits, never used."""

import random
import shutil
from pathlib import Path

import pytest

from pipeline.corpus.shards import FILES, open_corpus
from pipeline.execution.run_store import RunStore
from pipeline.planning.table import read_plan
from pipeline.storage import Damaged
from pipeline.training.checkpoint import read_checkpoint
from tests.faults.project import of_stage, record, run_stage, say
from tests.test_pipeline import ROOT

RECORD = (
    "spec.json",
    "result.json",
    "curve.parquet",
    "arrays.safetensors",
    "checkpoint.safetensors",
    "digests.json",
)


def flip(path: Path, dice: random.Random) -> None:
    """Turns one bit over, as a disk or a wire does."""
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def cut(path: Path, dice: random.Random) -> None:
    """Takes away the end, of any length."""
    data = path.read_bytes()
    path.write_bytes(data[: dice.randrange(len(data))])


def lose(path: Path, dice: random.Random) -> None:
    """Takes away the file."""
    path.unlink()


DAMAGES = (flip, cut, lose)


def finished_runs(folder: Path) -> list[str]:
    """The ids of the planned runs, parents first."""
    _, specs = read_plan(folder / "plan/runs.parquet")
    return [spec.run_id for spec in sorted(specs, key=lambda spec: (spec.kind != "trunk", spec.label))]


@pytest.mark.parametrize("name", RECORD)
def test_damage_anywhere_in_a_record_is_found_and_named(finished, name):
    store, dice = RunStore(finished), random.Random(name)
    run_id = finished_runs(finished)[-1]
    path = store.folder(run_id) / name
    sound = path.read_bytes()
    assert store.damaged(run_id) is None
    for damage in [flip] * 40 + [cut] * 10 + [lose]:
        damage(path, dice)
        # A flipped digest tells of the file that it belongs to.
        assert store.damaged(run_id).startswith(f"{path.parent}/" if name == "digests.json" else f"{path}: ")
        path.write_bytes(sound)
    assert store.damaged(run_id) is None
    (store.folder(run_id) / "more.bin").write_bytes(b"")
    assert "more.bin: not in digests.json" in store.damaged(run_id)


def test_damaged_records_are_refused_by_collect_and_trained_again_to_the_same_bits(finished, quiet):
    """A flipped, a cut and a missing file of every kind, each in another run, all at once."""
    dice, runs = random.Random(0), iter(finished_runs(finished))
    damaged = {}
    for name in RECORD:
        for damage in DAMAGES:
            run_id = next(runs)
            damage(finished / "runs" / run_id / name, dice)
            damaged[run_id] = name
    code, printed = say(finished, *of_stage("collect"))
    assert code == 1
    assert printed.count("\n") == 1
    assert any(f"{run_id}/{name}" in printed for run_id, name in damaged.items())
    assert "run `make study` to train the run again" in printed
    printed = run_stage(finished, "train")
    for run_id, name in damaged.items():
        assert f"damaged: {finished}/runs/{run_id}/{'' if name == 'digests.json' else f'{name}: '}" in printed
        assert (finished / "scratch/damaged" / f"{run_id}-0").is_dir()
    assert f"{len(damaged)} new" in printed
    assert record(finished) == record(quiet)
    run_stage(finished, "collect")
    assert (finished / "results/runs.parquet").read_bytes() == (quiet / "results/runs.parquet").read_bytes()


def test_damage_anywhere_in_a_checkpoint_is_found(finished):
    dice = random.Random(1)
    path = finished / "runs" / finished_runs(finished)[-1] / "checkpoint.safetensors"
    sound = path.read_bytes()
    header = 8 + int.from_bytes(sound[:8], "little")
    for place in [dice.randrange(header) for _ in range(150)] + [dice.randrange(len(sound)) for _ in range(50)]:
        data = bytearray(sound)
        data[place] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        with pytest.raises(Damaged, match=r"checkpoint\.safetensors: not a checkpoint, or damaged"):
            read_checkpoint(str(path))
    for _ in range(20):
        path.write_bytes(sound[: dice.randrange(len(sound))])
        with pytest.raises(Damaged):
            read_checkpoint(str(path))


def test_damaged_checkpoints_of_runs_under_way_and_of_parents_are_made_again(finished, quiet, tmp_path):
    """With checkpoints on a storage of their own, where only a run that reads one sees what has become of it."""
    store, dice, storage = RunStore(finished), random.Random(2), tmp_path / "storage"
    _, specs = read_plan(finished / "plan/runs.parquet")
    for spec in specs:
        (storage / spec.run_id).mkdir(parents=True)
        source = store.folder(spec.run_id) / "checkpoint.safetensors"
        shutil.copy(source, storage / spec.run_id / "checkpoint.safetensors")
    parents = {spec.run_id for spec in specs if spec.kind == "trunk" and spec.needs is None}
    children = [spec for spec in specs if spec.parent_id in parents]
    for child, damage in zip(children, DAMAGES, strict=True):
        shutil.rmtree(store.folder(child.run_id))
        damage(storage / child.parent_id / "checkpoint.safetensors", dice)
        flip(storage / child.run_id / "checkpoint.safetensors", dice)
    printed = run_stage(finished, "train", STUDY_STORAGE=storage.as_uri())
    for child in children:
        own = f"{storage.as_uri()}/{child.run_id}/checkpoint.safetensors: not a checkpoint, or damaged"
        assert own in printed
        assert f"{storage.as_uri()}/{child.parent_id}/checkpoint.safetensors" in printed
        assert (finished / "scratch/damaged" / f"{child.parent_id}-0").is_dir()
    kept = {name: data for name, data in record(quiet).items() if not name.endswith(("digests.json", ".safetensors"))}
    assert record(finished).items() >= kept.items()
    for spec in specs:
        made = (storage / spec.run_id / "checkpoint.safetensors").read_bytes()
        assert made == record(quiet)[f"runs/{spec.run_id}/checkpoint.safetensors"]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_damage_anywhere_in_the_corpus_is_found_and_named(finished, name):
    dice, tokens = random.Random(name), finished / "data/tokens"
    sound = (tokens / name).read_bytes()
    for damage in [flip] * 15 + [cut] * 5 + [lose]:
        damage(tokens / name, dice)
        with pytest.raises(ValueError, match=rf"tokens: not a prepared corpus \((.*{name}|JSONDecodeError|Unicode)"):
            open_corpus(tokens)
        (tokens / name).write_bytes(sound)
    open_corpus(tokens)


def test_nothing_is_trained_on_a_damaged_corpus_and_prepare_makes_it_again(planned, quiet):
    flip(planned / "data/tokens/train.bin", random.Random(3))
    code, printed = say(planned, *of_stage("train"))
    assert code == 1
    assert "train.bin is damaged: it does not have the sha256 in manifest.json" in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert not list((planned / "runs").iterdir())
    for name in ("pipeline", "stages", "tests"):  # the corpus is the code, which the project of this test does without
        shutil.copytree(ROOT / name, planned / name, ignore=shutil.ignore_patterns("__pycache__"))
    run_stage(planned, "prepare")
    for path in (planned / "data/tokens").iterdir():
        assert path.read_bytes() == (quiet / "data/tokens" / path.name).read_bytes()
