"""Muon against torch.optim.Muon, the singular value decomposition, and its own iteration written out."""

import pytest
import torch

from pipeline.models.loss import next_token_loss
from pipeline.models.parametrization import initialise
from pipeline.models.transformer import STACKS, Shape, Transformer
from pipeline.params import read_params
from pipeline.training.optimizer import COEFFICIENTS, Muon, Optimizer, orthogonalise

PARAMS = read_params().language_model


def fresh(width=32, depth=2):
    model = Transformer(Shape(256, width, depth, 16, 64, 4, 1000.0))
    initialise(model, "standard", seed=3)
    return model


def iteration(G):
    X = G / ((G @ G.T) @ (G @ G.T)).norm() ** 0.25
    for a, b, c in COEFFICIENTS:
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


@pytest.mark.parametrize("columns", [24, 96])
def test_orthogonalise_is_the_iteration_of_its_formula(columns):
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
    assert 0.65 < core.diag().min() < core.diag().max() < 1.25


def test_muon_moves_each_block_as_torchs_own_does_but_for_the_normalisation():
    """torch.optim.Muon divides by the norm and iterates in bfloat16: on blocks whose singular values are all equal both
    iterations only scale, so that the two updates are parallel, block by block, with the same momentum and decay."""
    ours = fresh()
    muon = Muon(ours, momentum=0.9, weight_decay=0.1)
    shapes = {"qkv": (16, 32), "out": (32, 32), "up": (128, 32), "down": (32, 128)}
    cut = {name: getattr(ours, name).detach().reshape(-1, *shapes[name]) for name in STACKS}
    leaves = {name: [block.clone().requires_grad_() for block in cut[name]] for name in STACKS}
    every = [leaf for name in STACKS for leaf in leaves[name]]
    reference = torch.optim.Muon(every, lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="original")
    before = {name: [leaf.detach().clone() for leaf in leaves[name]] for name in STACKS}
    for name in STACKS:
        gradients = []
        for leaf in leaves[name]:
            tall = torch.randn(
                max(leaf.shape), min(leaf.shape), generator=torch.Generator().manual_seed(len(gradients))
            )
            flat = torch.linalg.qr(tall).Q
            gradients.append(flat if leaf.shape[0] >= leaf.shape[1] else flat.T)
            leaf.grad = gradients[-1].clone()
        getattr(ours, name).grad = torch.stack(gradients).view_as(getattr(ours, name))
    muon.step(torch.tensor(0.01))
    reference.step()
    for name in STACKS:
        for mine, leaf, start in zip(
            getattr(ours, name).detach().reshape(-1, *shapes[name]), leaves[name], before[name], strict=True
        ):
            first, second = (mine - start * (1 - 0.001)).flatten(), (leaf.detach() - start * (1 - 0.001)).flatten()
            assert torch.nn.functional.cosine_similarity(first, second, dim=0) > 0.999
            scale = 2**0.5 if name == "qkv" else 1.0
            assert 0.55 * scale < first.norm() / second.norm() < 1.8 * scale


def test_a_restored_optimizer_goes_on_to_the_same_bits():
    def steps(model, optimizer, count, generator):
        for _ in range(count):
            next_token_loss(model, torch.randint(0, 256, (4, 65), generator=generator)).backward()
            optimizer.set_rates(0.7)
            optimizer.step()

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
    second.restore(state, 3)
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
    optimizer.set_rates(0.0)
    optimizer.step()
    assert torch.cat([g.flatten() for g in gradients]).norm().item() == pytest.approx(0.5, rel=1e-3)
