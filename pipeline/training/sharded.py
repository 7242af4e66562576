"""Training a model that no device holds whole: each process of a group has some rows of every matrix and its state."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from pipeline.models.own import build_own
from pipeline.models.parametrization import initialise
from pipeline.models.transformer import LayeredTransformer, Shape, rotary_turn
from pipeline.params import Model, Optimizer
from pipeline.training.optimizer import Muon
from pipeline.training.plain import TorchEngine
from pipeline.training.world import World, connected

KINDS = ("weights", "momentum", "mean", "square")
"""What a checkpoint may hold of a parameter."""


class ShardedMuon(Muon):
    """Muon on parts of matrices: each process orthogonalises the whole direction of one matrix after the other, and
    keeps its rows, as in the distributed Muon of Liu et al. 2025 (arXiv 2502.16982)."""

    def _levelled(self, G: DTensor, rows: int) -> DTensor:
        return part_of(super()._levelled(G.full_tensor(), rows), G)


class ShardedEngine(TorchEngine):
    """The update of TorchEngine by fully sharded data parallelism (Zhao et al. 2023, arXiv 2304.11277) as torch's
    fully_shard has it: the weights of one layer are whole only while it computes.

    A gradient goes to its owners after each micro-batch, so that it is never whole for more than a layer. All processes
    take part in whatever asks for a whole matrix, and so make the same calls in the same order. A model of the user's
    own is one unit: its state is divided, its weights are whole during a step.
    """

    def __init__(self, shape: Shape, model: Model, optimizer: Optimizer, seed: int, device: torch.device, world: World):
        mesh = init_device_mesh(device.type, (world.size,))
        network = _own(model.build, shape, seed, mesh) if model.build else _ours(shape, model, seed, mesh)
        super().__init__(network, optimizer, model, device, world, ShardedMuon)

    @connected()
    def step(self, windows: np.ndarray, factor: float, micro_batch: int) -> Tensor:
        """See Engine."""
        return super().step(windows, factor, micro_batch)

    def _add_up(self, total: Tensor) -> None:
        self.world.add_up([total])  # the gradients are sums already

    def _chunks(self, own: Tensor, number: int, micro_batch: int) -> list[tuple[Tensor, float]]:
        """As many as the process with most windows has: a window that weighs nothing stands for a missing one."""
        chunks, rows = super()._chunks(own, number, micro_batch), max(1, micro_batch // (own.shape[1] - 1))
        missing = ceil(ceil(number / self.world.size) / rows) - len(chunks)
        return chunks + [(own.new_zeros(1, own.shape[1]), 0.0)] * missing

    @connected()
    def losses(self, windows: np.ndarray) -> np.ndarray:
        """See Engine."""
        return super().losses(windows)

    @connected()
    def state(self) -> dict[str, Tensor]:
        """See Engine; gathered matrix by matrix, and kept in the memory of the first process's host."""
        tensors = {}
        for name, value in super().state().items():
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            if self.world.rank > 0:
                continue
            kind, parameter = name.split(".", 1)
            stack, layer = self._place(parameter)
            if layer is None:
                tensors[name] = whole.cpu()
            else:
                layers = torch.empty(self.network.shape.depth, *whole.shape, dtype=whole.dtype)
                tensors.setdefault(f"{kind}.{stack}", layers)[layer] = whole
        return tensors

    def restore(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """See Engine."""
        parts = {}
        for parameter, mine in self.network.state_dict().items():
            stack, layer = self._place(parameter)
            for kind in KINDS:
                if f"{kind}.{stack}" in tensors:
                    whole = tensors[f"{kind}.{stack}"] if layer is None else tensors[f"{kind}.{stack}"][layer]
                    parts[f"{kind}.{parameter}"] = part_of(whole, mine) if isinstance(mine, DTensor) else whole
        super().restore(parts, num_steps)

    def _place(self, parameter: str) -> tuple[str, int | None]:
        """The name that a parameter has in a checkpoint, and its layer there, None for a tensor by itself."""
        if isinstance(self.network, LayeredTransformer) and parameter.startswith("layers."):
            _, layer, stack = parameter.split(".")
            return stack, int(layer)
        return parameter, None


def part_of(whole: Tensor, like: DTensor) -> DTensor:
    """The rows of `whole` that this process has of `like`, divided and placed like it."""
    rows = ceil(len(whole) / like.device_mesh.size())
    first = rows * like.device_mesh.get_local_rank()
    own = whole[first : first + rows].to(like.device, copy=True)
    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(own, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride())


def _ours(shape: Shape, model: Model, seed: int, mesh: DeviceMesh) -> nn.Module:
    """The Transformer, which comes to be in parts: no process ever has more than a matrix of it.

    On a GPU layers are gathered in bfloat16: autocast would keep a copy of each until the backward pass.
    """
    with torch.device("meta"):
        network = LayeredTransformer(shape)
    low = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for layer in network.layers:
        _shard(layer, mesh, low if mesh.device_type == "cuda" else None)
    _shard(network, mesh)
    network.to_empty(device=mesh.device_type)
    network.turn.copy_(rotary_turn(shape))
    initialise(network, model.parametrization, seed, lambda weight, values: weight.copy_(part_of(values, weight)))
    return network


def _own(build: str, shape: Shape, seed: int, mesh: DeviceMesh) -> nn.Module:
    network = build_own(build, shape, seed).to(mesh.device_type)
    _shard(network, mesh)
    return network


def _shard(module: nn.Module, mesh: DeviceMesh, precision: MixedPrecisionPolicy | None = None) -> None:
    """Divides what `module` holds, and its submodules do not yet; gradients are summed, not averaged."""
    fully_shard(module, mesh=mesh, mp_policy=precision or MixedPrecisionPolicy())
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)
