// The budget calculator: a form that answers while it is filled in.

const UNITS = {
  flops: (amount) => amount,
  hours: (amount, gpu) => amount * 3600 * gpu.speed * gpu.use,
  dollars: (amount, gpu) => (amount / gpu.price) * 3600 * gpu.speed * gpu.use,
};

// {value, wrong}: the number that a text says, and what is wrong with it where it is none above 0 and at most `most`.
function numberIn(text, most) {
  const plain = text.replace(/[\s_]/g, ""), grouped = /^\d{1,3}(,\d{3})+(\.\d*)?$/.test(plain);
  const value = Number(grouped ? plain.replaceAll(",", "") : plain);
  if (plain.includes(",") && !grouped) return { value, wrong: "has a comma that does not separate thousands; decimals follow a point" };
  if (plain === "" || !Number.isFinite(value) || value <= 0) return { value, wrong: "is not a positive number" };
  return { value, wrong: value > most ? `is more than ${most}` : "" };
}

function startCalculator(form, stored) {
  const ask = forecaster(stored), answer = form.querySelector(".answer");
  const field = (name) => form.elements[name];

  // The positive number in a field, at most `most`; a field without one is marked, and named in the message.
  function read(name, most = Infinity) {
    const input = field(name), { value, wrong } = numberIn(input.value, most);
    input.setAttribute("aria-invalid", String(wrong !== ""));
    if (wrong) throw new RangeError(`${input.labels[0].textContent}: “${input.value}” ${wrong}.`);
    return value;
  }

  function show(name, text, value, remark = "") {
    const place = answer.querySelector(`[data-answer="${name}"]`);
    const data = Object.assign(document.createElement("data"), { value: String(value), textContent: text });
    place.replaceChildren(data, Object.assign(document.createElement("span"), { textContent: remark }));
  }

  const between = (ends, write) => `[${write(ends[0])}, ${write(ends[1])}]`;

  function update() {
    const [message, command, again] = [".message", ".command", ".again"].map((name) => form.querySelector(name));
    try {
      const gpu = { speed: read("speed") * 1e12, use: read("use", 100) / 100, price: read("price") };
      const C = UNITS[field("unit").value](read("amount"), gpu), hours = C / (3600 * gpu.speed * gpu.use);
      const tolerance = Number(field("tolerance").value), one = ask.budget(C, tolerance);
      const ends = [one.flat, one.sizes, one.tokens, one.ratios, one.interval, one.prediction].flat();
      if (![one.N, one.D, one.loss, ...ends].every((value) => Number.isFinite(value) && value > 0))
        throw new RangeError(`Budget: ${significant(C)} FLOPs is out of the range of numbers.`);
      const places = placesFor(one.prediction), loss = (value) => decimal(value, places);
      show("C", `${significant(C, 3, 1)} FLOPs`, C, `${significant(hours)} GPU-hours, $${significant(hours * gpu.price)}`);
      show("N", count(one.N, 4), one.N, between(one.sizes, count));
      show("D", count(one.D, 4), one.D, between(one.tokens, count));
      show("ratio", significant(one.D / one.N), one.D / one.N, between(one.ratios, (value) => significant(value)));
      show("loss", loss(one.loss), one.loss, `${between(one.prediction, loss)} a run, ${between(one.interval, loss)} the law`);
      show("flat", `${count(one.flat[0])} to ${count(one.flat[1])}`, one.flat.join(" "), `lose at most ${100 * tolerance}${THIN}%`);
      show("extrapolation", `${significant(one.extrapolation)}×`, one.extrapolation, "the largest compute measured");
      message.textContent = warning(one);
      message.classList.toggle("warning", beyond(one) > stored.warn_beyond);
      showComparison(C);
      command.textContent = `study predict --flops ${C.toExponential()}`;
      again.hidden = answer.hidden = false;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      again.hidden = answer.hidden = true;
      command.textContent = "";
      if (other) comparison.textContent = "";
      message.classList.add("warning");
      message.textContent = error.message;
    }
  }

  // How many times a budget lies above the largest compute measured, or below the smallest; 1 between them.
  const beyond = ({ C }) => Math.max(C / stored.C_range[1], stored.C_range[0] / C, 1);

  function warning(one) {
    const said = [], times = beyond(one), above = one.extrapolation > 1, end = above ? "the largest" : "the smallest";
    if (times > stored.warn_beyond)
      said.push(`Far extrapolation: ${significant(times)} times ${above ? "" : "below "}${end} compute measured, past ` +
        `${stored.warn_beyond}. The interval supposes that the law still holds there, which nothing here has tested.`);
    else if (times > 1) said.push(`${above ? "Beyond" : "Below"} ${end} compute measured: an extrapolation.`);
    if (stored.widening > 1)
      said.push(`The law's intervals missed too many held-out larger runs; widened ${decimal(stored.widening, 2)} times.`);
    return said.join(" ");
  }

  let other = null;
  const file = form.querySelector("[type=file]"), comparison = form.querySelector(".comparison");

  function showComparison(C) {
    if (!other) return;
    const { loss, multiplier, interval } = compared(ask, other.fit, C), times = (value) => (value === Infinity ? "∞" : significant(value));
    comparison.dataset.multiplier = multiplier;
    const verdict = interval[0] <= 1 && interval[1] >= 1 ? "the two cannot be told apart"
      : `${multiplier > 1 ? "the other" : "this study's"} recipe learns more per FLOP`;
    comparison.textContent = `On ${significant(C, 3, 1)} FLOPs ${other.name} reaches ${decimal(loss, 4)}. For that loss this study's recipe needs ` +
      `${times(multiplier)} times the compute ${between(interval, times)}: ${verdict}.`;
  }

  file.addEventListener("click", () => { file.value = ""; }); // the same file again is a choice too
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    other = null;
    comparison.textContent = "";
    if (!chosen) return;
    try {
      other = { name: chosen.name, fit: readFit(chosen.name, await chosen.text()) };
      update();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      comparison.textContent = error.message;
    }
  });
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
}
