// Two recipes by their fits: how much more compute the one needs for the loss of the other, each at its own optimum.

// A law's least loss on C FLOPs is E + excess, and the excess falls as C^-gamma.
function frontierLoss(law, lnC) {
  const lnND = lnC - Math.log(6), lnN = logOptimum(law, lnND);
  return Math.exp(logLoss(law, lnN, lnND - lnN));
}

// ln C at which the least loss of the law is L; infinite where it never comes so low.
function computeFor(law, L, lnC) {
  const E = Math.exp(law.lnE), gamma = (law.alpha * law.beta) / (law.alpha + law.beta);
  return L <= E ? Infinity : lnC - Math.log((L - E) / (frontierLoss(law, lnC) - E)) / gamma;
}

// {loss, multiplier, interval}: `ours` needs `multiplier` times the compute C for the loss that `theirs` has on it.
function compared(ours, theirs, C) {
  const lnC = Math.log(C), ratio = (one, other) => Math.exp(computeFor(one, frontierLoss(other, lnC), lnC) - lnC);
  const resamples = Math.min(ours.draws.length, theirs.draws.length);
  const drawn = Array.from({ length: resamples }, (_, i) => ratio(ours.draws[i], theirs.draws[i])).sort((a, b) => a - b);
  const quantile = (share) => drawn[Math.round(share * (resamples - 1))];
  return { loss: frontierLoss(theirs.law, lnC), multiplier: ratio(ours.law, theirs.law), interval: [quantile(0.025), quantile(0.975)] };
}

// The fit in a file of `study fit --json`; RangeError with the reason for anything else.
function readFit(name, text) {
  let found;
  try { found = JSON.parse(text); } catch { throw new RangeError(`${name}: not JSON.`); }
  const form = found?.predictor?.law;
  if (!["chinchilla", "q_form"].includes(form))
    throw new RangeError(`${name}: predictor.law: ${form ?? "missing"}; a fit of the law chinchilla or q_form is needed, written by study fit --json.`);
  const size = form === "q_form" ? 6 : 5, rows = [found.predictor.theta, ...(Array.isArray(found.draws) ? found.draws : [])];
  const bad = rows.findIndex((row) => !Array.isArray(row) || row.length !== size || !row.every(Number.isFinite));
  if (bad >= 0 || rows.length < 2) throw new RangeError(`${name}: ${bad === 0 ? "predictor.theta" : "draws"}: not ${size} numbers a row.`);
  const [law, ...draws] = rows.map(lawOf);
  return { law, draws };
}
