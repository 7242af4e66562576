// What a figure of the study shows under given settings: points, lines of the law and the frontier, as plain values.

const STEPS = 48;

function spread(low, high) {
  return Array.from({ length: STEPS + 1 }, (_, step) => low * (high / low) ** (step / STEPS));
}

// `along` is C, N or D; settings: convention, flops ("6ND" or "exact"), y ("loss" or "residual").
function sceneOf(data, along, { convention, flops, y }) {
  const columns = data.points, Ns = columns[data.conventions[convention].column], theta = data.laws[convention];
  const law = theta && lawOf(theta), by = along === "N" ? "D" : "width";
  const lossOf = (N, D) => Math.exp(logLoss(law, Math.log(N), Math.log(D)));
  const points = columns.run_id.map((run_id, index) => {
    const N = Ns[index], D = columns.D[index], loss = columns.loss[index], exact = columns.C_exact[index];
    const C = flops === "exact" ? exact : 6 * N * D, predicted = law ? lossOf(N, D) : null;
    const residual = law ? 100 * Math.log(loss / predicted) : null, key = String(columns[by][index]);
    const at = { C, N, D, loss, residual };
    return { ...at, run_id, index, predicted, exact, key, colour: data.colours[by][key], x: at[along], y: at[y] };
  });
  const groups = [...new Set(points.map((point) => point.key))].sort((a, b) => a - b)
    .map((key) => points.filter((point) => point.key === key));
  const ends = (name, some) => [Math.min(...some.map((one) => one[name])), Math.max(...some.map((one) => one[name]))];
  const lines = !law || y !== "loss" ? [] : groups.map((group) => {
    const [{ N, D, C, colour }] = group;
    const line = along === "N"
      ? spread(...ends("N", points)).map((size) => [size, lossOf(size, D)])
      : spread(...ends("D", along === "D" ? points : group)).map((tokens) => [along === "D" ? tokens : (C / D) * tokens, lossOf(N, tokens)]);
    return { colour, line };
  });
  const levels = groups.map(([{ key, N, colour }]) => ({ colour, label: count(by === "D" ? Number(key) : N) }));
  const valley = law && along === "C" && flops === "6ND" && y === "loss";
  return { points, lines, levels, legend: by === "D" ? "D, tokens" : "N, parameters", heldOut: along === "C" && flops === "6ND" && convention === data.headline ? data.held_out_above : null, frontier: valley ? frontierOf(data, convention, law, ends("C", points)) : null };
}

// The least loss for a budget up to ten times the largest; with its band where the table has one.
function frontierOf(data, convention, law, [low, high]) {
  if (convention === data.headline && data.frontier) {
    const { C, loss, loss_low: below, loss_high: above } = data.frontier;
    return { line: C.map((x, i) => [x, loss[i]]), band: [...C.map((x, i) => [x, above[i]]), ...C.map((x, i) => [x, below[i]]).reverse()] };
  }
  return { band: [], line: spread(low, 10 * high).map((C) => {
    const lnND = Math.log(C / 6), lnN = logOptimum(law, lnND);
    return [C, Math.exp(logLoss(law, lnN, lnND - lnN))];
  }) };
}
