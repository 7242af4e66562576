"""The methods of the language-model study: formulas as MathML and the words around them, with sources."""

from __future__ import annotations

from dataclasses import replace

from pipeline.fitting.points import LARGE
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
    "<msub><mi>w</mi><mi>i</mi></msub><mspace width='0.15em'/><mi>ρ</mi>"
    "<mo>(</mo><mi>ln</mi><msub><mi>L</mi><mi>i</mi></msub><mo>−</mo><mi>ln</mi>"
    "<msub><mover><mi>L</mi><mo>^</mo></mover><mi>θ</mi></msub><mo>(</mo><msub><mi>N</mi><mi>i</mi></msub><mo>,</mo>"
    "<msub><mi>D</mi><mi>i</mi></msub><mo>)</mo><mo>)</mo></mrow>"
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
        "What is minimised is a sum over runs, never a mean. Huber's rule counts small residuals of ln L squared and "
        "those above a threshold delta only in proportion, so that one bad run cannot pull the law to itself. Left "
        "alone, delta adapts to 1.345 standard deviations of the noise that the residuals show; a fixed 0.001 (arXiv "
        "2203.15556) is far below the noise of small runs and close to least absolute deviations. Starts come from a "
        "map: at given exponents the amplitudes follow by linear least squares (variable projection, arXiv "
        "2603.22339), and the best exponents that lie apart are then refined by Newton steps with the exact second "
        "derivatives. How many starts end at the same minimum is counted. Estimator of this page: ",
        _RESIDUAL,
    ),
    Method(
        "Intervals",
        "95 %, from refits with the same estimator; fits that mix two are discussed in arXiv 2404.10102. What is drawn "
        "again is an (N, D) cell with all its seeds or, more strictly, a tree: one trunk with every cooldown on it, "
        "since those share data order and early training. Percentiles are corrected for bias, and their tail is that "
        "of Student's t (arXiv 1411.5279), because few runs say little about their own noise. All that follows "
        "from the law, its exponent a, its frontier and its forecasts, rests on trees where there are at least three "
        "more than parameters, on cells otherwise; a prediction interval adds the noise of a run.",
    ),
    Method(
        "The gate",
        "A law must earn the right to show exponents. It fails when its rms residual exceeds 5 %, when a richer law "
        "predicts the same larger runs at least twice as well, or when it leaves a lack of fit and a richer law "
        "predicts better. The page then gives the reason in place of numbers.",
    ),
    Method(
        "Lack of fit",
        "Squared residuals over the variance between seeds, in an F test, since that variance is itself measured from "
        "few seeds. A small p says that the law misses more than noise explains, however small the residual. Runs of "
        "one tree scatter less than seeds do, so this test is generous; the strict test gives each tree a common "
        "offset and the smaller noise within it.",
    ),
    Method(
        "Map and profile",
        "Both exponents, or E, are held at each point of a grid and everything else is fitted again. The rise of the "
        "objective, scaled by the noise of the residuals, is held against an F distribution, which gives a region for "
        "both exponents and an interval for E that need not be symmetric and may stay open.",
    ),
    Method(
        "Influence",
        "Each run is left out in turn and the law fitted again, with delta as it was. Cook's distance sums up what "
        "that does to all parameters; what matters here is what it does to the forecast.",
    ),
    Method(
        "Hold-out",
        "Both laws are fitted again without the runs of the largest budgets and predict them. The hold-out, not the "
        "residual, chooses the law: a smaller residual, or a better BIC, is no evidence for a law beyond its runs.",
    ),
    Method(
        "Rolling hold-out",
        "The same from several origins in compute, each asked for the runs up to the next, so that none is asked for "
        "twice. If fewer losses lie in their 95 % intervals than chance allows, intervals of this law are too narrow "
        "beyond its runs, and forecasts are widened by the 95th percentile of the errors over the half widths. They "
        "are not widened otherwise.",
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
        "Three approaches",
        "Envelope, isoFLOP minima and law each give the exponent of N* (arXiv 2203.15556). Their difference is tested "
        "as if they were independent; they share the runs, so a disagreement found that way is real. All is repeated "
        "under each count of N, because counting alone moves exponents (arXiv 2406.19146), and with N set so that 6ND "
        "is the exact training FLOPs.",
    ),
    Method(
        "Next runs",
        "Candidates lie on the measured sizes and token counts and up to four times beyond. Each step takes the run "
        "that cuts the variance of the forecast most for its compute to the power 0.4 (arXiv 2604.22753). The law is "
        "given a small error of its own that grows away from the target, so that many tiny runs cannot pretend to "
        "settle it.",
    ),
    Method(
        "Simulated studies",
        "The appendix counts how often the intervals of studies drawn from known laws hold the truth. That tests the "
        "intervals while the law is right; whether it is right, only the hold-outs can say.",
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


_MANY = Method(
    "Many runs",
    f"The laws above are fitted to every run, and their lack of fit is tested on every run. Of more than {LARGE} "
    "evenly spaced ones stand for all where hundreds of fits are made: starts, hold-outs, cut-offs (whose tests still "
    "count all runs of a subset), the map, the profile, the envelope and the choice of next runs. Resamples and "
    "influence then take one step from the fit, along the changed gradient.",
)


def methods(settings: LanguageModel, estimator: str, num_points: int) -> tuple[Method, ...]:
    """The methods that these settings use on so many points of the law, with the estimator in words."""
    used = [
        replace(method, text=f"{method.text}{estimator}.") if method.heading == "Estimation" else method
        for method in _ALWAYS
    ]
    more = [_TRUNK] if settings.schedule.kind == "wsd" else []
    more += [_RATES] if settings.model.parametrization == "mup" else []
    more += [_MANY] if num_points > LARGE else []
    return (*used[:-1], *more, used[-1])
