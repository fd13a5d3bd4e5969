"use strict";
const page = JSON.parse(document.getElementById("figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function themed(figure, theme) {
  let text = JSON.stringify(figure);
  if (theme === "dark") for (const [light, dark] of Object.entries(page.darkColours)) text = text.replaceAll(light, dark);
  const { data, layout } = JSON.parse(text);
  return { data, layout: { ...layout, template: page[theme] } };
}

function draw() {
  for (const [name, figure] of Object.entries(page.figures)) {
    const { data, layout } = themed(figure, dark.matches ? "dark" : "light");
    Plotly.react(`figure-${name}`, data, layout, { displayModeBar: false, responsive: true });
  }
}

// A saved figure goes onto white paper, whatever the page looks like.
function save(name) {
  const { width, height } = document.getElementById(`figure-${name}`).getBoundingClientRect();
  const options = { format: "svg", filename: name, width: Math.max(width, 480), height };
  Plotly.downloadImage(themed(page.figures[name], "light"), options);
}

function search(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of document.getElementById(input.dataset.table).tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  input.parentElement.querySelector("output").textContent = `${shown} ${shown === 1 ? "row" : "rows"}`;
}

function value(row, column) {
  const text = row.cells[column].textContent.replaceAll(",", "").replace("\u2212", "-");
  const number = Number.parseFloat(text);
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function sort(heading) {
  const numbers = heading.classList.contains("n"); // of numbers one wants the largest first, of words the first
  const falling = numbers ? heading.ariaSort !== "descending" : heading.ariaSort === "ascending";
  const column = heading.cellIndex;
  const body = heading.closest("table").tBodies[0];
  const order = (a, b) => (a === b ? 0 : typeof a === typeof b ? (a < b ? -1 : 1) : typeof a === "number" ? -1 : 1);
  const rows = [...body.rows].sort((a, b) => order(value(a, column), value(b, column)));
  for (const other of heading.parentElement.cells) other.ariaSort = null;
  heading.ariaSort = falling ? "descending" : "ascending";
  body.append(...(falling ? rows.reverse() : rows));
}

draw();
dark.addEventListener("change", draw);
for (const button of document.querySelectorAll(".save")) button.addEventListener("click", () => save(button.dataset.plot));
for (const input of document.querySelectorAll(".search input")) {
  input.addEventListener("input", () => search(input));
  search(input);
}
for (const button of document.querySelectorAll("thead button")) button.addEventListener("click", () => sort(button.closest("th")));
