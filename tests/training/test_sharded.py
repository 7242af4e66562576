"""A model divided among processes trains as a whole one does, with a part of its memory, and its checkpoint fits all.

The reference is TorchEngine in one process, which the compiled engine is held to in test_engine.py.
"""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from pipeline.models.own import build_own
from pipeline.models.parametrization import initialise
from pipeline.models.transformer import Shape, Transformer
from pipeline.params import Evaluation, Model, Optimizer
from pipeline.training.checkpoint import read_checkpoint
from pipeline.training.device import prepare_device
from pipeline.training.plain import TorchEngine
from pipeline.training.sharded import ShardedEngine
from pipeline.training.trainer import train
from pipeline.training.world import World
from tests.training.test_trainer import DATA, places, recipe
from tests.training.test_world import NUM_PROCESSES, close, together

CPU = torch.device("cpu")
SHAPE = Shape(51, 24, 3, 8, 16, 4, 1000.0)
"""Neither the embedding nor the heads divide by two."""
MODEL = Model(depth=3, head_size=8, context=16, parametrization="standard")
MUON = Optimizer(kind="muon", matrix_rate=0.01, embedding_rate=0.008, head_rate=0.008, weight_decay=0.05)
CASES = {
    "muon": (MODEL, MUON),
    "adamw": (MODEL, MUON.model_copy(update={"kind": "adamw"})),
    "muon clipped": (MODEL, MUON.model_copy(update={"clip_norm": 0.3})),
    "adamw clipped": (MODEL, MUON.model_copy(update={"kind": "adamw", "clip_norm": 0.3})),
    "a mixer of one's own": (MODEL.model_copy(update={"build": "own.mixer:build"}), MUON),
}
BATCHES = (4, 3, 1, 5, 2, 7)
"""Windows a step, two at once: the processes have as many, one more or less, a micro-batch more or less, or none."""
STEPS_LATER = (3, 1)


def windows(count, seed):
    return np.random.default_rng(seed).integers(0, SHAPE.vocab_size, (count, SHAPE.context + 1))


def whole(name):
    """The reference."""
    torch.set_num_threads(1)
    model, optimizer = CASES[name]
    network = build_own(model.build, SHAPE, 0) if model.build else Transformer(SHAPE)
    if not model.build:
        initialise(network, "standard", 0)
    return TorchEngine(network, optimizer, model, CPU)


def sharded(name):
    torch.set_num_threads(1)
    model, optimizer = CASES[name]
    return ShardedEngine(SHAPE, model, optimizer, 0, CPU, World.here())


def steps(engine, counts, start=0):
    return torch.tensor([float(engine.step(windows(n, start + i), 1.0, 32)) for i, n in enumerate(counts)])


def course(engine):
    """Losses of some steps, then those of single tokens, and the state."""
    return steps(engine, BATCHES), torch.from_numpy(engine.losses(windows(3, 99))), engine.state()


def later(engine, state):
    """Losses of the steps that come after `course`, from its state."""
    engine.restore(state, len(BATCHES))
    return steps(engine, STEPS_LATER, 50)


def held(tensors):
    """Entries of `tensors` that this process has itself."""
    return sum((t.to_local() if isinstance(t, DTensor) else t).numel() for t in tensors)


def entries(engine):
    """What each process holds: entries of the weights between steps and of the state, and of the weights at most while
    it computes, at the start of each layer's forward and backward pass."""
    network, seen = engine.network, [0]

    def look(*_):
        seen[0] = max(seen[0], held(network.parameters()))

    for layer in network.layers:
        layer.register_forward_pre_hook(look)
        layer.register_full_backward_pre_hook(look)
    steps(engine, BATCHES)
    mine = torch.tensor([held(network.parameters()), held(engine.optimizer.state().values()), *seen])
    rows = [torch.zeros_like(mine) for _ in range(NUM_PROCESSES)]
    dist.all_gather(rows, mine)
    return torch.stack(rows)


def in_a_group(folder):
    """The course of every case, what comes later from the reference's state, and the entries of one case."""
    states = torch.load(folder / "states.pt", weights_only=True)
    courses = {name: course(sharded(name)) for name in CASES}
    return courses, {name: later(sharded(name), states[name]) for name in CASES}, entries(sharded("adamw"))


@pytest.fixture(scope="module")
def alone():
    return {name: course(whole(name)) for name in CASES}


@pytest.fixture(scope="module")
def group(alone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    torch.save({name: state for name, (*_, state) in alone.items()}, folder / "states.pt")
    return together(folder, in_a_group)


@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_one_process(alone, group, name):
    """The weights less closely than the losses: where a gradient nearly vanishes, as behind matrices that start at
    zero, Muon enlarges its rounding (a mixer's agree to 2e-4, in double precision to 4e-13)."""
    (losses, tokens, state), (ours, our_tokens, our_state) = alone[name], group[0][name]
    torch.testing.assert_close(ours, losses, rtol=1e-6, atol=0)
    torch.testing.assert_close(our_tokens, tokens, rtol=1e-4, atol=1e-4)
    assert our_state.keys() == state.keys()
    for part, value in state.items():
        assert our_state[part].shape == value.shape
        assert torch.linalg.norm(our_state[part] - value) < 1e-3 * torch.linalg.norm(value)


@pytest.mark.parametrize("name", CASES)
def test_each_goes_on_from_the_others_state(alone, group, name):
    expected = later(whole(name), alone[name][2])
    torch.testing.assert_close(group[1][name], expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(later(whole(name), group[0][name][2]), expected, rtol=1e-4, atol=0)


def test_each_process_holds_its_part_and_one_layer_more_while_it_computes(alone, group):
    state = alone["adamw"][2]
    weights = sum(value.numel() for name, value in state.items() if name.startswith("weights."))
    outside = 2 * SHAPE.vocab_size * SHAPE.width
    layer = (weights - outside) // SHAPE.depth
    between, moments, most = group[2].T.tolist()
    assert sum(between) == weights
    assert sum(moments) == 2 * weights
    assert max(between) <= weights / 2 + 2 * SHAPE.width
    for part, seen in zip(between, most, strict=True):
        assert part + layer / 2 < seen <= outside + layer + (SHAPE.depth - 1) * layer / 2


RUN = replace(recipe(), evaluation=Evaluation(windows=40, windows_per_document=4))
"""Its evaluation is five batches, which do not divide by two."""
TRUNK = recipe("constant", fork=RUN.course.fork)


def trained(folder, sharded=True, run=RUN, origin=None, name="own"):
    """The curve and the losses over validation windows of a run that saves as often as it can."""
    where = replace(places(folder, origin, seconds=0, micro=128, name=name), sharded=sharded)
    *_, outcome = train(run, DATA, where, prepare_device())
    return torch.from_numpy(outcome.curve), torch.from_numpy(outcome.losses)


def courses_in_turn(folder):
    """A run from its start; its trunk; and its cooldown from the trunk of one process: all divided."""
    started = trained(folder)
    trained(folder, run=TRUNK, name="trunk")
    return started, trained(folder, origin="trunk of one", name="cooled")


def test_a_run_goes_on_divided_and_whole_in_turn(tmp_path):
    expected = trained(tmp_path, False, name="alone")
    trained(tmp_path, False, TRUNK, name="trunk of one")
    started, cooled = together(tmp_path, courses_in_turn)
    assert close(started, expected, 1e-4)
    assert close(cooled[1:], expected[1:], 1e-4)
    assert read_checkpoint(str(tmp_path / "trunk")).tokens == RUN.course.fork
    assert close(trained(tmp_path, False, origin="trunk", name="whole")[1:], expected[1:], 1e-4)


def bereaved(folder, work):
    """What the first process finds when the other ends in the midst of `work`."""
    engine, batch = sharded("muon clipped"), windows(4, 0)
    engine.step(batch, 1.0, 32)
    alone = World.here().rank == 0
    if not alone and work == "backward":
        engine.network.layers[1].register_full_backward_hook(lambda *_: os._exit(0))
    if not alone and work != "backward":
        os._exit(0)
    with pytest.raises(ConnectionResetError, match="a process of the group is gone"):
        engine.state() if work == "state" else engine.step(batch, 1.0, 32)
    return torch.tensor(alone)


@pytest.mark.parametrize("work", ["backward", "state"])
def test_a_process_that_is_gone_is_told_as_such(tmp_path, work):
    assert together(tmp_path, partial(bereaved, work=work))
