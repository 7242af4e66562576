// Axes of a figure, linear or logarithmic: where a value lies, and which values are marked.

function makeElement(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "circle", "line", "text", "rect", "clipPath"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Along an axis everything is counted in `inner` units: the value itself, or its logarithm.
function makeAxis(logarithmic) {
  return { logarithmic, inner: logarithmic ? Math.log : (value) => value, outer: logarithmic ? Math.exp : (value) => value };
}

// [low, high] in inner units about all positive or finite values, with a margin.
function extent(axis, values) {
  const inner = values.map(axis.inner).filter(Number.isFinite);
  const low = Math.min(...inner), high = Math.max(...inner), margin = 0.05 * (high - low) || 0.5;
  return [low - margin, high + margin];
}

function evenTicks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((digit) => digit * power).find((size) => size >= rough);
  const ticks = [];
  for (let index = Math.ceil(low / step); index * step <= high; index++) ticks.push(Number((index * step).toPrecision(12)));
  return ticks;
}

// Round values between the ends of a view (inner units), about `most` of them.
function ticksOf(axis, [low, high], most) {
  if (!axis.logarithmic) return evenTicks(low, high, most);
  const decades = (high - low) / Math.LN10;
  if (decades < 0.9) return evenTicks(Math.exp(low), Math.exp(high), most);
  const digits = decades * 3 <= most * 1.5 ? [1, 2, 5] : [1], apart = digits.length > 1 ? 1 : Math.ceil(decades / most);
  const ticks = [];
  for (let power = Math.floor(low / Math.LN10); power <= high / Math.LN10; power++)
    if (power % apart === 0)
      ticks.push(...digits.map((digit) => Number(`${digit}e${power}`)).filter((tick) => Math.log(tick) >= low && Math.log(tick) <= high));
  return ticks;
}
