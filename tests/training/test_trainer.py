"""Training resumes to the same bits wherever it is cut, learns a source of known entropy, and owns up to failure."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.corpus.batches import evaluation_set
from pipeline.models.transformer import Shape
from pipeline.params import Batch, Evaluation, Model, Optimizer
from pipeline.storage import OriginLost
from pipeline.training.checkpoint import read_checkpoint, write_checkpoint
from pipeline.training.device import prepare_device
from pipeline.training.schedule import Course, branch, step_boundary
from pipeline.training.trainer import Data, Outcome, Places, Progress, Recipe, train

BATCH = Batch(tokens=256, growth_from=4_000, growth_power=0.5)
MODEL = Model(depth=2, head_size=16, context=64)
EVALUATION = Evaluation(windows=64, windows_per_document=4)
MUON = Optimizer(kind="muon", matrix_rate=0.01, embedding_rate=0.008, head_rate=0.008)


def source(length, seed):
    """A Markov chain on 8 symbols that stays with probability 0.75: its entropy rate is known."""
    generator = np.random.default_rng(seed)
    moves = np.where(generator.random(length) < 0.75, 0, generator.integers(1, 8, length))
    return (np.cumsum(moves) % 8).astype(np.uint8)


ENTROPY = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25 / 7))
DATA = Data(source(200_000, 0), source(20_000, 1), np.ones(8, np.int32), np.arange(0, 20_000, 1000))


def recipe(shape="linear", fork=9_000, end=12_000, optimizer=MUON, seed=0):
    """A trunk to about `fork` tokens, or a cooldown over the last quarter of about `end` tokens."""
    fork, end = branch(BATCH, 64, end, 0.25) if shape == "linear" else [step_boundary(BATCH, 64, fork)] * 2
    shape_of_model = Shape(8, 32, 2, 16, 64, 4, 1000.0)
    return Recipe(shape_of_model, MODEL, optimizer, BATCH, Course(shape, 1_000, fork, end), EVALUATION, seed)


def places(folder, origin=None, seconds=1e9, micro=8192, name="own"):
    return Places(origin and str(folder / origin), str(folder / name), seconds, micro)


def finish(recipe, places):
    device = prepare_device()
    *progress, outcome = train(recipe, DATA, places, device)
    assert all(isinstance(event, Progress) for event in progress)
    assert isinstance(outcome, Outcome)
    return outcome


def equal(first, second):
    first, second = read_checkpoint(str(first)), read_checkpoint(str(second))
    assert first.tokens == second.tokens
    assert first.tensors.keys() == second.tensors.keys()
    return all(torch.equal(value, second.tensors[name]) for name, value in first.tensors.items())


def test_a_trunk_is_the_same_run_wherever_it_was_cut(tmp_path):
    whole = finish(recipe("constant", fork=9_000), places(tmp_path, name="whole"))
    finish(recipe("constant", fork=2_000), places(tmp_path, name="a"))
    finish(recipe("constant", fork=5_500), places(tmp_path, "a", name="b"))
    pieces = finish(recipe("constant", fork=9_000), places(tmp_path, "b", name="c"))
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "c").read_bytes()
    np.testing.assert_array_equal(whole.curve, pieces.curve)


def test_a_branch_equals_the_same_schedule_from_scratch(tmp_path):
    finish(recipe("constant", fork=recipe().course.fork), places(tmp_path, name="trunk"))
    cooled = finish(recipe("linear"), places(tmp_path, "trunk", name="branch"))
    scratch = finish(recipe("linear"), places(tmp_path, name="scratch"))
    assert cooled.resumed_from > 0 == scratch.resumed_from
    np.testing.assert_array_equal(cooled.losses, scratch.losses)


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path):
    finish(recipe(), places(tmp_path, name="quiet"))
    eager = replace(places(tmp_path, seconds=0), progress_seconds=0)
    interrupted = train(recipe(), DATA, eager, prepare_device())
    for _ in range(10):
        next(interrupted)
    interrupted.close()
    saved = read_checkpoint(str(tmp_path / "own"))
    assert 0 < saved.tokens < recipe().course.end
    outcome = finish(recipe(), places(tmp_path))
    assert outcome.resumed_from == saved.tokens
    assert (tmp_path / "own").read_bytes() == (tmp_path / "quiet").read_bytes()


def test_the_micro_batch_does_not_change_the_mathematics(tmp_path):
    whole = finish(recipe(), places(tmp_path, name="whole"))
    split = finish(recipe(), places(tmp_path, name="split", micro=128))
    assert split.losses.mean() == pytest.approx(whole.losses.mean(), rel=1e-3)
    assert not np.array_equal(split.losses, whole.losses)


def test_the_loss_comes_down_to_the_entropy_of_the_source(tmp_path):
    outcome = finish(recipe(end=100_000), places(tmp_path))
    windows = evaluation_set(DATA.validation, DATA.validation_documents, 64, 64, 4).windows
    true = -np.log(np.where(np.diff(windows) % 8 == 0, 0.75, 0.25 / 7)).mean()
    assert true == pytest.approx(ENTROPY, rel=0.05)
    assert true * 0.995 < outcome.losses.sum() / (64 * 64) < true * 1.03


def test_adamw_and_cosine_train_too(tmp_path):
    adam = Optimizer(kind="adamw", matrix_rate=0.003, embedding_rate=0.008, head_rate=0.008, clip_norm=1.0)
    end = step_boundary(BATCH, 64, 40_000)
    outcome = finish(replace(recipe(optimizer=adam), course=Course("cosine", 1_000, end, end)), places(tmp_path))
    assert outcome.losses.sum() / (64 * 64) < 1.25 * ENTROPY
    assert outcome.curve[-1][2] < 0.01


def test_a_run_that_blows_up_is_a_result_with_a_reason(tmp_path):
    infinite = Optimizer(kind="adamw", matrix_rate=1e30, embedding_rate=1e30, head_rate=1e30)
    outcome = finish(recipe(optimizer=infinite, end=70_000), places(tmp_path))
    assert outcome.status == "diverged"
    assert "training loss is nan" in outcome.reason
    assert not len(outcome.losses)
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("matrix_rate", [0.01, 1e3])
def test_a_run_that_never_falls_below_its_start_is_given_up(tmp_path, matrix_rate):
    """With the larger rate its weights are noise, and the loss stays far above that of the uniform distribution."""
    wild = Optimizer(kind="adamw", matrix_rate=matrix_rate, embedding_rate=1e4, head_rate=1e4)
    calm = Batch(tokens=256, growth_from=1_000_000)
    course = Course("constant", 1_000, 102_400, 102_400)
    outcome = finish(replace(recipe(optimizer=wild), batch=calm, course=course), places(tmp_path))
    assert outcome.status == "diverged"
    assert "does not fall below its start" in outcome.reason
    assert outcome.tokens < 80_000


def test_seeds_change_weights_and_data_order(tmp_path):
    first, second = (finish(recipe(seed=s), places(tmp_path, name=f"seed{s}")) for s in (0, 1))
    assert not np.array_equal(first.losses, second.losses)


def test_a_parent_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(OriginLost, match="trunk: the checkpoint this run starts from is missing"):
        finish(recipe(), places(tmp_path, "trunk"))
    (tmp_path / "trunk").write_bytes(b"not a checkpoint")
    with pytest.raises(OriginLost, match="trunk: not a checkpoint"):
        finish(recipe(), places(tmp_path, "trunk"))


def test_a_damaged_checkpoint_of_its_own_is_named_and_the_run_starts_again(tmp_path):
    finish(recipe("constant", fork=recipe().course.fork), places(tmp_path, name="trunk"))
    finish(recipe(), places(tmp_path, "trunk", name="quiet"))
    data = bytearray((tmp_path / "quiet").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "own").write_bytes(data)
    first, *_, outcome = train(recipe(), DATA, places(tmp_path, "trunk"), prepare_device())
    assert "own: not a checkpoint, or damaged" in first.note
    assert first.tokens == outcome.resumed_from == recipe().course.fork
    assert (tmp_path / "own").read_bytes() == (tmp_path / "quiet").read_bytes()


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path):
    finish(recipe(end=10_000), places(tmp_path))
    state, before = read_checkpoint(str(tmp_path / "own")), (tmp_path / "own").read_bytes()
    write_checkpoint(str(tmp_path / "copy"), state)
    assert (tmp_path / "copy").read_bytes() == before
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_checkpoint(str(tmp_path / "folder"), state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "folder", "own"]
