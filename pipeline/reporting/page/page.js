// Brings the page to life; without it every picture and every table is still there.
for (const note of document.querySelectorAll(".without-scripts")) note.hidden = true;
for (const form of document.querySelectorAll("form.calculator"))
  startCalculator(form, JSON.parse(form.querySelector(".stored").textContent));
for (const stored of document.querySelectorAll("script.points")) {
  const data = JSON.parse(stored.textContent);
  for (const figure of document.querySelectorAll("figure[data-along]")) startChart(figure, data);
}
