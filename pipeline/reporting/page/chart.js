// Interactive figures: each takes the place of its static picture on screen, and shows the same runs and laws.

const MARGIN = { left: 58, right: 14, top: 10, bottom: 46 }, HEIGHT = 380, NEAR = 28;
const LABELS = { C: "training compute C (FLOPs)", N: "parameters N", D: "training tokens D", loss: "validation loss L (nats/token)", residual: "residual of the law (%)" };
const power = (value) => significant(value, Number(value.toPrecision(1)) === value ? 1 : 2, 1);
const WRITE = { C: power, N: count, D: count, loss: (value) => String(value), residual: (value) => String(value).replace("-", "−") };

// What a scene shows besides its points, as the caption calls it.
function drawn({ lines, frontier }) {
  return [["lines of the law", lines.length], ["the frontier", frontier], ["the 95 % interval of the frontier", frontier?.band.length]]
    .filter(([, shown]) => shown).map(([words]) => words);
}

function startChart(figure, data) {
  const along = figure.dataset.along, hasLaw = Object.keys(data.laws).length > 0;
  const settings = { convention: data.headline, flops: "6ND", y: "loss", logX: true, logY: true };
  const start = { ...settings }, clip = `clip-${along}`;
  let scene, axes, view, width, selected = null;

  const picture = makeElement("svg", { class: "plot", tabindex: "0", role: "application", "aria-roledescription": "interactive figure",
    "aria-label": `${figure.dataset.title}. Arrow keys step from run to run, plus and minus zoom, shift with arrows moves, 0 shows all.` });
  const details = makeElement("div", { class: "details", role: "status", hidden: "" });
  const legend = makeElement("p", { class: "legend" }), absent = makeElement("p", { class: "hint absent", role: "status" });
  const tools = makeElement("div", { class: "tools", role: "group", "aria-label": `Settings of ${figure.dataset.title}` });

  const buttons = makeElement("span", { class: "buttons" });

  function choice(name, label, options) {
    const select = makeElement("select", { name }, ...options.map(([value, text]) => makeElement("option", { value }, text)));
    select.value = settings[name];
    select.addEventListener("change", () => { settings[name] = select.value; refresh(); });
    tools.append(makeElement("label", {}, label, select));
  }
  function toggle(name, label) {
    const box = makeElement("input", { type: "checkbox", name });
    box.checked = settings[name];
    box.addEventListener("change", () => { settings[name] = box.checked; refresh(); });
    tools.append(makeElement("label", {}, box, label));
  }
  function button(label, words, action) {
    const made = makeElement("button", { type: "button", "aria-label": words, title: words }, label);
    made.addEventListener("click", action);
    buttons.append(made);
  }
  choice("convention", "N counts", Object.entries(data.conventions).map(([name, { short }]) => [name, short]));
  if (along === "C") choice("flops", "C counts", [["6ND", "6ND"], ["exact", "exact FLOPs"]]);
  if (hasLaw) choice("y", "shown", [["loss", "loss"], ["residual", "residual"]]);
  toggle("logX", "log x");
  toggle("logY", "log y");
  button("+", "zoom in", () => zoom(0.7));
  button("−", "zoom out", () => zoom(1 / 0.7));
  button("⟲", "show all", () => refresh());
  tools.append(buttons);

  // Everything anew, in full view.
  function refresh() {
    scene = sceneOf(data, along, settings);
    const logY = settings.logY && settings.y === "loss";
    tools.querySelector("[name=logY]").disabled = settings.y !== "loss";
    axes = { x: makeAxis(settings.logX), y: makeAxis(logY) };
    const beyond = settings.logX && scene.frontier ? scene.frontier.line : [];
    view = {
      x: extent(axes.x, [...scene.points.map(({ x }) => x), ...beyond.map(([x]) => x)]),
      y: extent(axes.y, [...scene.points.map(({ y }) => y), ...beyond.map(([, y]) => y)]),
    };
    const every = Math.ceil(scene.levels.length / 12);
    legend.replaceChildren(`${scene.legend}: `, ...scene.levels.filter((_, index) => index % every === 0)
      .map(({ colour, label }) => makeElement("span", {}, makeElement("i", { style: `background:${colour}` }), label)));
    if (scene.frontier) legend.append(makeElement("span", { class: "dashed" }, makeElement("i"), "frontier"));
    const now = drawn(scene), missing = drawn(sceneOf(data, along, start)).filter((words) => !now.includes(words));
    absent.hidden = missing.length === 0;
    absent.textContent = `Not drawn under these settings: ${missing.join(", ")}.`;
    draw();
  }

  const place = (name, value) => {
    const [low, high] = view[name], share = (axes[name].inner(value) - low) / (high - low);
    const span = name === "x" ? width - MARGIN.left - MARGIN.right : HEIGHT - MARGIN.top - MARGIN.bottom;
    return name === "x" ? MARGIN.left + share * span : HEIGHT - MARGIN.bottom - share * span;
  };
  const path = (line) => "M" + line.map(([x, y]) => `${place("x", x).toFixed(1)} ${place("y", y).toFixed(1)}`).join("L");

  function draw() {
    width = Math.max(picture.parentElement.clientWidth, 240);
    picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const right = width - MARGIN.right, bottom = HEIGHT - MARGIN.bottom, frame = makeElement("g");
    const inside = makeElement("g", { "clip-path": `url(#${clip})` });
    for (const tick of ticksOf(axes.x, view.x, Math.max(3, Math.floor(width / 85)))) {
      const x = place("x", tick);
      frame.append(makeElement("line", { class: "grid", x1: x, x2: x, y1: MARGIN.top, y2: bottom }),
        makeElement("text", { x, y: bottom + 17, "text-anchor": "middle" }, WRITE[along](tick)));
    }
    for (const tick of ticksOf(axes.y, view.y, 7)) {
      const y = place("y", tick);
      frame.append(makeElement("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y, y2: y }),
        makeElement("text", { x: MARGIN.left - 7, y: y + 4, "text-anchor": "end" }, WRITE[settings.y](tick)));
    }
    const middle = (MARGIN.top + bottom) / 2;
    frame.append(makeElement("text", { x: (MARGIN.left + right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, LABELS[along]),
      makeElement("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, LABELS[settings.y]));
    if (settings.y === "residual") inside.append(makeElement("line", { class: "zero", x1: 0, x2: width, y1: place("y", 0), y2: place("y", 0) }));
    if (scene.frontier?.band.length) inside.append(makeElement("path", { class: "band", d: path(scene.frontier.band) }));
    for (const { colour, line } of scene.lines) inside.append(makeElement("path", { class: "law", d: path(line), stroke: colour }));
    if (scene.frontier) inside.append(makeElement("path", { class: "frontier", d: path(scene.frontier.line) }));
    for (const point of scene.points)
      inside.append(makeElement("circle", { class: "run", "data-run": point.run_id, cx: place("x", point.x), cy: place("y", point.y), r: 4, fill: point.colour }));
    if (scene.heldOut) {
      const x = place("x", scene.heldOut);
      inside.append(makeElement("line", { class: "limit", x1: x, x2: x, y1: 0, y2: bottom }), makeElement("text", { x: x + 5, y: MARGIN.top + 12 }, "held out →"));
    }
    const box = { x: MARGIN.left, y: MARGIN.top, width: right - MARGIN.left, height: bottom - MARGIN.top };
    picture.replaceChildren(makeElement("clipPath", { id: clip }, makeElement("rect", box)), frame, inside);
    tell(selected);
  }

  // Rings the run and says what is known of it; null puts both away.
  function tell(index) {
    selected = index;
    picture.querySelector(".ring")?.remove();
    details.hidden = index === null;
    if (index === null) return;
    const point = scene.points[index], x = place("x", point.x), y = place("y", point.y);
    picture.append(makeElement("circle", { class: "ring", cx: x, cy: y, r: 7 }));
    details.replaceChildren(...lines(point).map((line) => makeElement("div", {}, line)));
    details.style.left = `${Math.min(Math.max(x + 14, 0), Math.max(width - details.offsetWidth - 4, 0))}px`;
    details.style.top = `${y > HEIGHT / 2 ? y - details.offsetHeight - 14 : y + 14}px`;
  }

  function lines({ run_id, index, loss, predicted, residual, D, exact }) {
    const columns = data.points, bits = columns.bits_per_byte[index];
    const sizes = Object.values(data.conventions).map(({ column, short }) => [columns[column][index], short]);
    const N = columns[data.conventions[settings.convention].column][index];
    return [
      `run ${run_id.slice(0, 16)}`,
      `width ${columns.width[index]}, seed ${columns.seed[index]}`,
      `L = ${decimal(loss, 4)} nats/token${bits === null ? "" : `, ${decimal(bits, 4)} bits/byte`}`,
      ...(predicted === null ? [] : [`${data.law} ${decimal(predicted, 4)}, residual ${decimal(residual, 2)}${THIN}%`]),
      `D = ${count(D)} tokens`,
      ...sizes.map(([size, short]) => `N = ${count(size)} ${short}`),
      `C = ${significant(6 * N * D, 3, 1)} 6ND, ${significant(exact, 3, 1)} exact`,
    ];
  }

  // Scales the view by a factor about a place in it, a share of its width and height.
  function zoom(factor, about = { x: 0.5, y: 0.5 }) {
    for (const name of ["x", "y"]) {
      const [low, high] = view[name], fixed = low + about[name] * (high - low);
      view[name] = [fixed + factor * (low - fixed), fixed + factor * (high - fixed)];
    }
    draw();
  }
  function pan(x, y) {
    for (const [name, share] of [["x", x], ["y", y]]) view[name] = view[name].map((end) => end + share * (view[name][1] - view[name][0]));
    draw();
  }

  const where = (event) => {
    const box = picture.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * width) / box.width, y: ((event.clientY - box.top) * HEIGHT) / box.height };
  };
  let held = null;
  // The run nearest to a place, if any is near.
  function pointAt({ x, y }) {
    const distances = scene.points.map((point) => Math.hypot(place("x", point.x) - x, place("y", point.y) - y));
    const nearest = distances.indexOf(Math.min(...distances));
    tell(distances[nearest] <= NEAR ? nearest : null);
  }
  picture.addEventListener("pointerdown", (event) => {
    held = where(event);
    pointAt(held);
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener("pointerup", () => { held = null; });
  picture.addEventListener("pointercancel", () => { held = null; });
  picture.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse" && document.activeElement !== picture) tell(null);
  });
  picture.addEventListener("pointermove", (event) => {
    const at = where(event);
    if (held) {
      const [across, up] = [width - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
      pan((held.x - at.x) / across, (at.y - held.y) / up);
      held = at;
      return;
    }
    pointAt(at);
  });
  picture.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const { x, y } = where(event);
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, { x: (x - MARGIN.left) / (width - MARGIN.left - MARGIN.right), y: 1 - (y - MARGIN.top) / (HEIGHT - MARGIN.top - MARGIN.bottom) });
  }, { passive: false });
  picture.addEventListener("dblclick", refresh);
  picture.addEventListener("blur", () => tell(null));
  picture.addEventListener("keydown", (event) => {
    const order = scene.points.map((_, index) => index).sort((a, b) => scene.points[a].x - scene.points[b].x || scene.points[a].y - scene.points[b].y);
    const now = order.indexOf(selected), to = (index) => tell(order[Math.min(Math.max(index, 0), order.length - 1)]);
    const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    const actions = {
      ArrowRight: () => to(now + 1), ArrowDown: () => to(now + 1), ArrowLeft: () => to(now - 1), ArrowUp: () => to(now - 1),
      Home: () => to(0), End: () => to(order.length - 1), "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1 / 0.7),
      0: refresh, Escape: () => tell(null),
    };
    const action = event.shiftKey && moves[event.key] ? () => pan(...moves[event.key]) : actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });

  const card = figure.querySelector(".card");
  const chart = makeElement("div", { class: "chart" }, tools, makeElement("div", { class: "canvas" }, picture, details), legend, absent,
    makeElement("p", { class: "hint" }, "Point at a run, tap it, or step with the arrow keys. Drag to move, Ctrl and wheel to zoom, double click for all."));
  card.append(chart);
  figure.classList.add("live");
  refresh();
  new ResizeObserver(() => draw()).observe(chart);
}
