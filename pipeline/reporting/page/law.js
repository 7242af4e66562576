// The law L = E + [(A/N^alpha)^q + (B/D^beta)^q]^(1/q), and what its resamples say of a budget: the same steps as
// pipeline/fitting/prediction.py, frontier.py and intervals.py, so that the page answers as `study predict` does.

// theta holds ln E, ln A, ln alpha, ln B, ln beta and, unless it is 1, ln q.
function lawOf(theta) {
  const [lnE, lnA, lnAlpha, lnB, lnBeta, lnQ = 0] = theta;
  return { lnE, lnA, alpha: Math.exp(lnAlpha), lnB, beta: Math.exp(lnBeta), q: Math.exp(lnQ) };
}

function logSum(a, b) {
  return Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
}

function logLoss(law, lnN, lnD) {
  const size = law.q * (law.lnA - law.alpha * lnN), data = law.q * (law.lnB - law.beta * lnD);
  return logSum(law.lnE, logSum(size, data) / law.q);
}

// ln N* on N D = e^lnND (arXiv 2203.15556, eq. 4, with a q).
function logOptimum(law, lnND) {
  const sum = law.alpha + law.beta;
  return (Math.log(law.alpha / law.beta) / law.q + law.lnA - law.lnB + law.beta * lnND) / sum;
}

// The normal distribution function, by the series of its density's integral.
function normal(x) {
  let term = x, sum = x;
  for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) sum += term *= (x * x) / n;
  return 0.5 + sum * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
}

// Where a rising function first reaches `level` between two ends.
function crossing(rising, level, low, high) {
  for (let step = 0; step < 200 && low < high; step++) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    if (rising(middle) < level) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

// Bias-corrected percentiles of draws about an estimate, with Student's tail.
function correctedInterval(draws, estimate, { reach, most_bias: most }) {
  const sorted = Float64Array.from(draws).sort();
  let below = 0;
  for (const draw of sorted) below += draw < estimate ? 1 : draw === estimate ? 0.5 : 0;
  const share = Math.min(Math.max(below / sorted.length, 1 - most), most);
  const shift = 2 * crossing(normal, share, -4, 4);
  return [shift - reach, shift + reach].map((z) => {
    const place = Math.min(Math.max(normal(z) * (sorted.length + 1) - 1, 0), sorted.length - 1);
    const under = Math.floor(place), over = Math.min(under + 1, sorted.length - 1);
    return sorted[under] + (place - under) * (sorted[over] - sorted[under]);
  });
}

// The sizes whose loss on e^lnND is within `tolerance` of the least.
function flatRange(law, lnND, tolerance) {
  const best = logOptimum(law, lnND);
  const ceiling = logLoss(law, best, lnND - best) + Math.log1p(tolerance);
  const excess = (lnN) => logLoss(law, lnN, lnND - lnN) - ceiling;
  return [-1, 1].map((side) => {
    const limit = side < 0 ? 0 : lnND;
    let edge = best;
    while (excess(edge) < 0 && edge !== limit) edge = side < 0 ? Math.max(edge - 1, limit) : Math.min(edge + 1, limit);
    if (excess(edge) < 0) return Math.exp(edge);
    const out = (distance) => excess(best + side * distance);
    return Math.exp(best + side * crossing(out, 0, 0, Math.abs(edge - best)));
  });
}

// What the stored law and its resamples say of budgets.
function forecaster(stored) {
  const law = lawOf(stored.theta);
  const bytes = Uint8Array.from(atob(stored.draws), (mark) => mark.charCodeAt(0));
  const flat = new Float64Array(bytes.buffer), width = stored.theta.length;
  const draws = Array.from({ length: flat.length / width }, (_, row) => lawOf(flat.subarray(row * width, (row + 1) * width)));

  function budget(C, tolerance) {
    const lnND = Math.log(C / stored.flops_per_parameter_token);
    const lnN = logOptimum(law, lnND), lnD = lnND - lnN, lnL = logLoss(law, lnN, lnD);
    const N = Math.exp(lnN), sizes = correctedInterval(draws.map((draw) => Math.exp(logOptimum(draw, lnND))), N, stored);
    const losses = correctedInterval(draws.map((draw) => logLoss(draw, lnN, lnD)), lnL, stored);
    const noise = stored.reach * stored.noise_sd;
    const reaches = losses.map((end) => stored.widening * Math.hypot(end - lnL, noise));
    const ND = C / stored.flops_per_parameter_token;
    return {
      C, N, D: ND / N, loss: Math.exp(lnL),
      sizes, tokens: [ND / sizes[1], ND / sizes[0]], ratios: [ND / sizes[1] ** 2, ND / sizes[0] ** 2],
      interval: losses.map(Math.exp), prediction: [Math.exp(lnL - reaches[0]), Math.exp(lnL + reaches[1])],
      flat: flatRange(law, lnND, tolerance), extrapolation: C / stored.C_range[1],
    };
  }
  return { budget, law, draws };
}
