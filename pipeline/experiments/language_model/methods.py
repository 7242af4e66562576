"""The methods of the language-model study: formulas as MathML and the words around them, with sources."""

from __future__ import annotations

from pipeline.params import LanguageModel
from pipeline.reporting.chapter import Method


def _term(letter: str, size: str, exponent: str) -> str:
    return f"<mfrac><mi>{letter}</mi><msup><mi>{size}</mi><mi>{exponent}</mi></msup></mfrac>"


def _raised(inner: str, power: str) -> str:
    return f"<msup><mrow><mo>(</mo>{inner}<mo>)</mo></mrow>{power}</msup>"


def _display(inner: str) -> str:
    return f'<math display="block">{inner}</math>'


_LEFT = "<mi>L</mi><mo>=</mo><mi>E</mi><mo>+</mo>"
_SIZE, _DATA = _term("A", "N", "α"), _term("B", "D", "β")
_SUM = f"{_raised(_SIZE, '<mi>q</mi>')}<mo>+</mo>{_raised(_DATA, '<mi>q</mi>')}"
_INVERSE = "<mrow><mn>1</mn><mo>/</mo><mi>q</mi></mrow>"
_ROOT = f'<msup><mrow><mo stretchy="true">[</mo>{_SUM}<mo stretchy="true">]</mo></mrow>{_INVERSE}</msup>'

FORMULAS = {
    "chinchilla": _display(f"<mrow>{_LEFT}{_SIZE}<mo>+</mo>{_DATA}</mrow>"),
    "q_form": _display(f"<mrow>{_LEFT}{_ROOT}</mrow>"),
}

_RESIDUAL = _display(
    "<mrow><munder><mo>min</mo><mi>θ</mi></munder><munder><mo>∑</mo><mi>i</mi></munder>"
    "<msup><mrow><mo>(</mo><mi>ln</mi><msub><mi>L</mi><mi>i</mi></msub><mo>−</mo><mi>ln</mi>"
    "<msub><mover><mi>L</mi><mo>^</mo></mover><mi>θ</mi></msub><mo>(</mo><msub><mi>N</mi><mi>i</mi></msub><mo>,</mo>"
    "<msub><mi>D</mi><mi>i</mi></msub><mo>)</mo><mo>)</mo></mrow><mn>2</mn></msup></mrow>"
)
_OPTIMUM = _display(
    "<mrow><msup><mi>N</mi><mo>*</mo></msup><mo>(</mo><mi>C</mi><mo>)</mo><mo>∝</mo>"
    "<msup><mi>C</mi><mrow><mi>β</mi><mo>/</mo><mo>(</mo><mi>α</mi><mo>+</mo><mi>β</mi><mo>)</mo></mrow></msup>"
    '<mspace width="1em"/><mtext>on</mtext><mspace width="0.5em"/>'
    "<mi>C</mi><mo>=</mo><mn>6</mn><mi>N</mi><mi>D</mi></mrow>"
)

_ALWAYS = (
    Method(
        "The Chinchilla law",
        "The loss in excess of E is a part that only size removes and a part that only data removes (arXiv "
        "2203.15556). N is parameters, D training tokens, L validation loss in nats/token.",
        FORMULAS["chinchilla"],
    ),
    Method(
        "The q-form",
        "The same two parts joined by a q-norm: q = 1 is the Chinchilla law, and the larger q is, the more the larger "
        "part alone decides. With E = 0 and q = 1/β it contains the form of arXiv 2001.08361.",
        FORMULAS["q_form"],
    ),
    Method(
        "Estimation",
        "Both laws minimise the squared residual of ln L from many starts, whose agreement is counted. Intervals are "
        "95 % percentiles over refits to resampled (N, D) cells, each with all its seeds; cells of one size share a "
        "trunk, so the intervals may be too narrow. Point and interval use the same estimator; published fits that "
        "mix two are discussed in arXiv 2404.10102.",
        _RESIDUAL,
    ),
    Method(
        "Lack of fit",
        "Squared residuals over the variance between seeds, against chi-squared. A small p says that the law misses "
        "more than noise explains, however small the residual. Runs of one tree share trunk and data order, so they "
        "scatter less than seeds do and this test is generous; the strict test gives each tree a common offset and "
        "the smaller noise within it.",
    ),
    Method(
        "Hold-out",
        "Both laws are fitted again without the runs of the largest budgets and predict them. The hold-out, not the "
        "residual, chooses the law: a smaller residual is no evidence for a law with one more parameter.",
    ),
    Method(
        "Compute",
        "C = 6ND in the figures, the hold-out and the frontier (arXiv 2001.08361). The bill and the table of runs "
        "count exact training FLOPs, attention and head included.",
    ),
    Method(
        "Compute-optimal frontier",
        "The size of least loss at a budget; the same exponent for every q. The isoFLOP minima are found without the "
        "law: loss interpolated in D at equal compute, then a parabola through the smallest losses (arXiv "
        "2203.15556).",
        _OPTIMUM,
    ),
    Method(
        "Laws as findings",
        "A law is reported with the regime in which it was seen to hold and where it broke, in the spirit of a "
        "mechanics of learning (arXiv 2604.21691).",
    ),
)

_TRUNK = Method(
    "One trunk, many cooldowns",
    "A size is trained once at a constant rate, and each token count is a short cooldown from the trunk. That gives "
    "the loss of a run of its own with the same schedule (arXiv 2405.18392) for a part of its cost.",
)

_RATES = Method(
    "Rates across sizes",
    "Rates are set at one width and transfer to the others by the maximal-update rules (arXiv 2203.03466), so that the "
    "law is not a law of badly tuned sizes.",
)


def methods(settings: LanguageModel) -> tuple[Method, ...]:
    """The methods that these settings use."""
    used = [*_ALWAYS[:-1]]
    if settings.schedule.kind == "wsd":
        used.append(_TRUNK)
    if settings.model.parametrization == "mup":
        used.append(_RATES)
    return (*used, _ALWAYS[-1])
