"""Muon against torch.optim.Muon, the singular value decomposition, and its own iteration written out."""

import pytest
import torch

from pipeline.models.parametrization import initialise
from pipeline.models.transformer import Shape, Transformer
from pipeline.params import read_params
from pipeline.training.optimizer import COEFFICIENTS, NUM_ITERATIONS, Muon, Optimizer, orthogonalise

PARAMS = read_params().language_model


def fresh(width=32, depth=2):
    model = Transformer(Shape(256, width, depth, 16, 64, 4, 1000.0))
    initialise(model, "standard", seed=3)
    return model


def iteration(G):
    a, b, c = COEFFICIENTS
    X = G / G.norm()
    for _ in range(NUM_ITERATIONS):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


@pytest.mark.parametrize("columns", [24, 96])
def test_orthogonalise_is_the_newton_schulz_iteration(columns):
    G = torch.randn(5, 24, columns, dtype=torch.float64)
    expected = torch.stack([iteration(g) for g in G])
    torch.testing.assert_close(orthogonalise(G), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(orthogonalise(G.float()).double(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("columns", [24, 96])
def test_orthogonalise_keeps_singular_vectors_and_levels_singular_values(columns):
    U, _, Vt = torch.linalg.svd(torch.randn(24, columns, dtype=torch.float64), full_matrices=False)
    G = U @ torch.diag(torch.logspace(0, -2, 24, dtype=torch.float64)) @ Vt
    core = U.T @ orthogonalise(G[None])[0] @ Vt.T
    assert (core - core.diag().diag()).abs().max() < 1e-6
    assert 0.6 < core.diag().min() < core.diag().max() < 1.3


def test_muon_agrees_with_torchs_own():
    """torch.optim.Muon orthogonalises in bfloat16, so single entries agree to a few per cent of an update's size."""
    ours, theirs = fresh(), fresh()
    muon = Muon(ours, rate=0.01, momentum=0.9, weight_decay=0.1)
    pieces = []
    for block in theirs.blocks:
        pieces += [*block.qkv.split(32), block.out, block.up, block.down]
    leaves = [piece.detach().clone().requires_grad_() for piece in pieces]
    reference = torch.optim.Muon(leaves, lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="original")
    generator = torch.Generator().manual_seed(0)
    start = [leaf.detach().clone() for leaf in leaves]
    for _ in range(3):
        gradients = [torch.randn(leaf.shape, generator=generator) for leaf in leaves]
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient.clone()
        for index, block in enumerate(ours.blocks):
            mine = gradients[6 * index : 6 * index + 6]
            block.qkv.grad, block.out.grad, block.up.grad, block.down.grad = torch.cat(mine[:3]), *mine[3:]
        muon.step(1.0)
        reference.step()
    moved = []
    for block in ours.blocks:
        moved += [*block.qkv.detach().split(32), block.out.detach(), block.up.detach(), block.down.detach()]
    for mine, leaf, before in zip(moved, leaves, start, strict=True):
        assert (mine - leaf).norm() / (leaf - before).norm() < 0.02


def test_a_restored_optimizer_goes_on_to_the_same_bits():
    def steps(model, optimizer, count, generator):
        for _ in range(count):
            model.loss(torch.randint(0, 256, (4, 65), generator=generator)).backward()
            optimizer.step(0.7)

    model, generator = fresh(), torch.Generator().manual_seed(1)
    optimizer = Optimizer(model, PARAMS.optimizer, PARAMS.model)
    steps(model, optimizer, 3, generator)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: value.clone() for name, value in optimizer.state().items()}
    mark = generator.get_state()
    steps(model, optimizer, 3, generator)

    again = fresh()
    again.load_state_dict(weights)
    second = Optimizer(again, PARAMS.optimizer, PARAMS.model)
    second.restore(state)
    generator.set_state(mark)
    steps(again, second, 3, generator)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_gradients_are_clipped_to_the_norm():
    settings = PARAMS.optimizer.model_copy(update={"kind": "adamw", "clip_norm": 0.5})
    model = fresh()
    optimizer = Optimizer(model, settings, PARAMS.model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    gradients = [parameter.grad for parameter in model.parameters()]
    optimizer.step(0.0)
    assert torch.cat([g.flatten() for g in gradients]).norm().item() == pytest.approx(0.5, rel=1e-3)
