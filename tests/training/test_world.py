"""Processes in a group train as one process does: the same curve, losses and updates, and a checkpoint for either."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from pipeline.models.parametrization import initialise
from pipeline.models.transformer import Transformer
from pipeline.training.checkpoint import read_checkpoint
from pipeline.training.device import prepare_device
from pipeline.training.plain import TorchEngine
from pipeline.training.trainer import train
from pipeline.training.world import World
from tests.training.test_trainer import DATA, MODEL, MUON, finish, places, recipe

CPU = torch.device("cpu")
NUM_PROCESSES = 2


def joined(rank, folder, work):
    """What a process of the group does: `work`, whose result rank 0 leaves in the folder."""
    dist.init_process_group("gloo", f"file://{folder}/group", world_size=NUM_PROCESSES, rank=rank)
    result = work(folder)
    if rank == 0:
        torch.save(result, folder / "result.pt")
    dist.destroy_process_group()


def together(folder, work):
    """The result of `work` in a group of processes that do it side by side."""
    (folder / "group").unlink(missing_ok=True)
    multiprocessing.spawn(joined, (folder, work), nprocs=NUM_PROCESSES)
    return torch.load(folder / "result.pt", weights_only=True)


def trained(folder, run=None, name="own", origin=None):
    """The curve and the losses over validation windows of a run."""
    *_, outcome = train(run or recipe(end=40_000), DATA, places(folder, origin, micro=192, name=name), prepare_device())
    return torch.from_numpy(outcome.curve), torch.from_numpy(outcome.losses)


def trunk(folder):
    return trained(folder, recipe("constant"), "trunk")


def close(ours, theirs, tolerance):
    return all(
        torch.allclose(a.double(), b.double(), rtol=tolerance, atol=0) for a, b in zip(ours, theirs, strict=True)
    )


def test_a_group_has_the_loss_curve_of_one_process(tmp_path):
    ours, theirs = trained(tmp_path, name="alone"), together(tmp_path, trained)
    assert len(theirs[0]) > 4
    assert len(theirs[1]) == 64
    assert close(ours, theirs, 1e-5)


def test_a_checkpoint_of_a_group_goes_on_in_one_process(tmp_path):
    together(tmp_path, trunk)
    started = read_checkpoint(str(tmp_path / "trunk"))
    assert started.tokens == recipe("constant").course.end
    resumed = finish(recipe(end=40_000), places(tmp_path, "trunk", name="resumed"))
    assert resumed.resumed_from == started.tokens
    assert close((torch.from_numpy(resumed.losses),), trained(tmp_path, name="alone")[1:], 1e-5)


def steps_of_torch(folder):
    """Losses of some steps of the engine of GPUs, and the weights afterwards; the batch of 3 does not divide by 2."""
    torch.set_num_threads(1)
    model = Transformer(recipe().shape)
    initialise(model, "standard", 0)
    engine = TorchEngine(model, MUON, MODEL, CPU, World.here())
    windows = np.random.default_rng(0).integers(0, 8, (5, 3, 65))
    losses = torch.stack([engine.step(batch, 1.0, 8192) for batch in (*windows, windows[0, :1])])
    return losses, torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_the_engine_of_gpus_steps_alike_in_a_group(tmp_path):
    ours, theirs = steps_of_torch(tmp_path), together(tmp_path, steps_of_torch)
    assert close(ours[:1], theirs[:1], 1e-5)
    assert torch.linalg.norm(ours[1] - theirs[1]) < 1e-4 * torch.linalg.norm(ours[1])


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_are_a_partition(size):
    rows = np.arange(20).reshape(5, 4)
    parts = np.concatenate([World(rank, size).part(rows) for rank in range(size)])
    assert sorted(parts.tolist()) == rows.tolist()
