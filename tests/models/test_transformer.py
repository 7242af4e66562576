"""The transformer computes what its formula says: against torch's own counters, autograd, and plain attention."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.loss import next_token_loss
from pipeline.models.parametrization import initialise, learning_rates
from pipeline.models.size import Size
from pipeline.models.transformer import Shape, SquaredReLU, Transformer
from pipeline.params import read_params

PARAMS = read_params().language_model
WIDTHS = PARAMS.grid.widths


def shape(width, vocab_size=256, depth=3, head_size=None, context=64):
    return Shape(vocab_size, width, depth, head_size or PARAMS.model.head_size, context, 4, 1000.0)


def model(width, parametrization="mup", **options):
    made = Transformer(shape(width, **options))
    initialise(made, parametrization, seed=0)
    return made


@pytest.mark.parametrize("width", WIDTHS)
def test_parameters_by_every_convention_agree_with_a_count_of_the_named_ones(width):
    counts = {name: p.numel() for name, p in model(width).named_parameters()}
    size = Size(256, width, 3, 64, 4)
    assert size.N_total == sum(counts.values())
    assert size.N_with_head == sum(n for name, n in counts.items() if name != "embedding")
    assert size.N_non_embedding == sum(n for name, n in counts.items() if name not in ("embedding", "head"))


@pytest.mark.parametrize("width", WIDTHS)
def test_flops_a_token_agree_with_torchs_counter(width):
    made, windows = model(width), torch.randint(0, 256, (4, 65))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        next_token_loss(made, windows).backward()
    assert counter.get_total_flops() / (4 * 64) == pytest.approx(Size(256, width, 3, 64, 4).flops_per_token, rel=0.01)


def test_a_prediction_sees_no_later_token():
    made = model(32, "standard").double()
    tokens = torch.randint(0, 256, (2, 64))
    changed = tokens.clone()
    changed[:, 40:] = torch.randint(0, 256, (2, 24))
    assert torch.equal(made(tokens)[:, :40], made(changed)[:, :40])
    assert not torch.allclose(made(tokens)[:, 40:], made(changed)[:, 40:])


def test_attention_is_softmax_of_rotated_scores():
    """One block against an explicit computation with the rotation written as a matrix (arXiv 2104.09864, eq. 15)."""
    width, head, T = 16, 8, 10
    made = model(width, "standard", head_size=head, depth=1)
    x = torch.randn(2, T, width)
    q, k, v = F.linear(F.layer_norm(x, (width,)), made.qkv[0]).view(2, T, 3, 2, head).unbind(2)

    def rotate(z):
        out = torch.empty_like(z)
        for t in range(T):
            for pair in range(head // 2):
                angle = t * 1000.0 ** (-2 * pair / head)
                c, s = math.cos(angle), math.sin(angle)
                other = pair + head // 2
                a, b = z[:, t, :, pair], z[:, t, :, other]
                out[:, t, :, pair], out[:, t, :, other] = c * a - s * b, s * a + c * b
        return out

    scores = torch.einsum("bihk,bjhk->bhij", rotate(q), rotate(k)) / head**0.5
    scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -torch.inf)
    mixed = torch.einsum("bhij,bjhk->bihk", scores.softmax(-1), v).reshape(2, T, width)
    expected = x + mixed @ made.out[0].T
    hidden = F.layer_norm(expected, (width,)) @ made.up[0].T
    expected = expected + torch.where(hidden > 0, hidden**2, 0.0) @ made.down[0].T
    torch.testing.assert_close(made.block(0, x), expected, rtol=1e-4, atol=1e-5)


def test_squared_relu_has_the_gradient_of_its_formula():
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SquaredReLU.apply, x)


def test_an_untrained_mup_model_predicts_the_uniform_distribution():
    assert next_token_loss(model(48), torch.randint(0, 256, (4, 65))).item() == pytest.approx(math.log(256), abs=1e-6)


def test_initial_spreads_follow_the_parametrization():
    made = model(128, "standard")
    assert made.qkv.std().item() == pytest.approx(128**-0.5, rel=0.03)
    assert made.head.std().item() == pytest.approx(128**-0.5, rel=0.03)
    assert made.down.std().item() == pytest.approx(512**-0.5 / 6**0.5, rel=0.03)
    assert not model(128).head.any()


def test_mup_moves_the_logits_by_an_amount_that_does_not_depend_on_width():
    """Coordinate check (arXiv 2203.03466, appendix D.1): logits after a few steps, over 8x in width."""
    from pipeline.training.optimizer import Optimizer

    sizes = []
    for width in (32, 256):
        torch.manual_seed(0)
        made = model(width)
        optimizer, windows = Optimizer(made, PARAMS.optimizer, PARAMS.model), torch.randint(0, 256, (8, 65))
        for _ in range(4):
            next_token_loss(made, windows).backward()
            optimizer.set_rates(1.0)
            optimizer.step()
        sizes.append(made(windows[:, :-1]).std().item())
    assert 0.5 < sizes[1] / sizes[0] < 2


def test_rates_follow_width_only_where_mup_says_so():
    adam = PARAMS.optimizer.model_copy(update={"kind": "adamw"})
    wide, base = (learning_rates(adam, PARAMS.model, width) for width in (128, 64))
    assert wide["matrix"] == base["matrix"] / 2
    assert wide["head"] == base["head"] / 2
    assert wide["embedding"] == base["embedding"]
    assert learning_rates(PARAMS.optimizer, PARAMS.model, 128)["matrix"] == PARAMS.optimizer.matrix_rate
    standard = PARAMS.model.model_copy(update={"parametrization": "standard"})
    assert learning_rates(adam, standard, 128) == learning_rates(adam, standard, 64)
