// Numbers as the rest of the page writes them (pipeline/reporting/numbers.py).
const THIN = "\u202f";

function decimal(value, places) {
  const text = value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
  return text.replaceAll(",", THIN).replace("-", "−");
}

function significant(value, digits = 3, scientificFrom = 1e6) {
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  if (Math.abs(value) >= scientificFrom || Math.abs(value) < 1e-3) {
    const raised = [...String(power)].map((mark) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(mark)]).join("");
    return `${mantissa === "1" ? "" : `${mantissa.replace("-", "−")}×`}10${raised}`;
  }
  return decimal(value, Math.max(digits - 1 - power, 0));
}

// Parameters or tokens in short: 20.7 k, 1.2 M, 3 G.
function count(value, digits = 3) {
  const rounded = Number(value.toPrecision(digits));
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(rounded) >= unit) return `${Number((rounded / unit).toPrecision(10))}${THIN}${name}`;
  return String(rounded);
}

// Decimals that show two significant digits of the half width of an interval.
function placesFor([low, high]) {
  return Math.min(Math.max(1 - Math.floor(Math.log10((high - low) / 2)), 0), 6);
}
