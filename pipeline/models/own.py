"""A language model of the user's own: what it must offer, how it is made, what it counts.

`model.build: own.mixer:build` in params.yaml names a function of a module in this project (a file of the folder `own/`,
say) that is given a Shape and returns a torch module with

    forward(tokens)    int64 (B, T), T at most shape.context -> logits (B, T, V) of the next token, from those before it
    groups()           which optimiser moves what: the names of all parameters by group, each once

The groups are `matrix` (hidden matrices (..., m, n), moved by Muon where that is the optimiser), `vector` (gains and
biases, by AdamW), `embedding` and `head` (by AdamW, with rates of their own). N without the embedding is what `matrix`
and `vector` hold. The module sets its initial weights itself, after torch's generator was seeded with the run's seed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.loss import next_token_loss
from pipeline.models.size import Counted
from pipeline.models.transformer import Shape

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("matrix", "vector", "embedding", "head")


def build_own(build: str, shape: Shape, seed: int) -> nn.Module:
    """The module that the function `build` ("package.module:function") makes of `shape`.

    Raises ValueError naming `build` when there is no such function, or what it makes does not keep the protocol.
    """
    module, _, function = build.partition(":")
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    try:
        make = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"language_model.model.build: {build}: {error}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(shape)
    _check_groups(build, model)
    model.shape = shape
    return model


def count(build: str, shape: Shape) -> Counted:
    """N by its conventions and training FLOPs a token of the model that `build` makes of `shape`.

    FLOPs are those of all matrix products, convolutions and attention in a forward and backward pass over one window,
    as torch counts them, a token. Raises ValueError for a model whose logits have another shape, or for a token depend
    on a later one.
    """
    model = build_own(build, shape, 0)
    _check_logits(build, build_own(build, shape, 0), shape)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    N = {group: sum(sizes[name] for name in names) for group, names in model.groups().items()}
    window = torch.zeros(1, shape.context + 1, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        next_token_loss(model, window).backward()
    return Counted(
        vocab_size=shape.vocab_size,
        width=shape.width,
        depth=shape.depth,
        context=shape.context,
        N_non_embedding=N["matrix"] + N.get("vector", 0),
        N_with_head=N["matrix"] + N.get("vector", 0) + N.get("head", 0),
        N_total=sum(sizes.values()),
        flops_per_token=round(counter.get_total_flops() / shape.context),
    )


def _check_groups(build: str, model: nn.Module) -> None:
    if not isinstance(model, nn.Module) or not callable(getattr(model, "groups", None)):
        raise ValueError(f"language_model.model.build: {build}: not a torch module with a method groups()")
    groups, parameters = model.groups(), dict(model.named_parameters())
    unknown = [group for group in groups if group not in GROUPS]
    if unknown or not groups.get("matrix"):
        raise ValueError(
            f"language_model.model.build: {build}: groups: {unknown[0] if unknown else 'no matrix'}:"
            f" the groups are {', '.join(GROUPS)}, and matrix is never empty"
        )
    named = [name for names in groups.values() for name in names]
    for name in sorted({*named, *parameters}):
        if named.count(name) != 1 or name not in parameters:
            what = "is no parameter" if name not in parameters else f"is in {named.count(name)} groups instead of one"
            raise ValueError(f"language_model.model.build: {build}: groups: {name}: {what}")
    for name in groups["matrix"]:
        if parameters[name].dim() < 2:
            raise ValueError(f"language_model.model.build: {build}: groups: matrix: {name} is a vector")


def _check_logits(build: str, model: nn.Module, shape: Shape) -> None:
    V, T = shape.vocab_size, shape.context
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(V, (2, T), generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():  # a head that starts at zero would hide what goes wrong before it
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        logits = model(tokens)
        if logits.shape != (2, T, V):
            raise ValueError(
                f"language_model.model.build: {build}: logits of the shape {tuple(logits.shape)} instead of {(2, T, V)}"
            )
        for place in (T // 2, T - 1):
            changed = tokens.clone()
            changed[:, place] = (changed[:, place] + 1) % V
            if not torch.allclose(model(changed)[:, :place], logits[:, :place], rtol=1e-4, atol=1e-5):
                raise ValueError(
                    f"language_model.model.build: {build}: logits before position {place} change with the token there"
                )
