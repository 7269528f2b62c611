// What pages do in a browser beyond HTML: copying, charts, and forgetting. Nothing is kept, nothing is asked elsewhere.
"use strict";

// htmx reads pieces of pages that this server sends; nothing makes a script of text.
window.trustedTypes?.createPolicy("default", { createHTML: (text) => text });

// A page that the browser kept may be of a session that is over, or show a key: it is asked for anew.
window.addEventListener("pagehide", () => {
  for (const secret of document.querySelectorAll("[data-secret]")) secret.replaceChildren();
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it and copy";
  }
  setTimeout(() => { button.textContent = said; }, 2000);
});

// Printing needs a script: without one there is no such button, and browsers have their own.
for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => print());
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-send]")) event.target.form.requestSubmit();
});

// Charts. <figure data-chart="stack|lines" data-unit="money|count|ms|..."> has a table: its first column is the time (data-x, in
// seconds), each further one a series (data-v). The picture stands above the table, which stays for everybody.
const UNITS = {
  count: (v) => compact(v, ""),
  money: (v) => "$" + (v >= 1000 ? compact(v, "") : v >= 0.01 || v === 0 ? v.toFixed(2) : v.toPrecision(2)),
  ms: (v) => (v >= 1000 ? (v / 1000).toPrecision(3) + " s" : Math.round(v) + " ms"),
};

// Along an axis each amount is told from the next one, and there are no parts of a request or a token.
function told(name, unit) {
  if (name !== "money") return (_, at) => at.map(unit);
  return (_, at) => {
    const digits = at.length < 2 ? 2 : Math.min(6, Math.max(2, Math.ceil(-Math.log10(at[1] - at[0]))));
    return at.map((v) => (v >= 1000 ? unit(v) : "$" + v.toFixed(digits)));
  };
}
const WHOLE = [1, 2, 5].flatMap((n) => Array.from({ length: 15 }, (_, zeros) => n * 10 ** zeros)).sort((a, b) => a - b);

function compact(value, unit) {
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value) + unit;
}

function readTable(table) {
  const [first, ...names] = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows].sort((a, b) => a.cells[0].dataset.x - b.cells[0].dataset.x);
  const x = rows.map((row) => Number(row.cells[0].dataset.x));
  const series = names.map((_, n) => rows.map((row) => {
    const v = row.cells[n + 1].dataset.v;
    return v === undefined || v === "" ? null : Number(v);
  }));
  return { first, names, x, series, labels: rows.map((row) => row.cells[0].textContent.trim()) };
}

function draw(figure) {
  const { first, names, x, series, labels } = readTable(figure.querySelector("details table"));
  const place = figure.querySelector(".picture-place");
  place.replaceChildren();
  if (x.length === 0) return;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => resolve(style.getPropertyValue(name));
  const stacked = figure.dataset.chart === "stack";
  const unit = UNITS[figure.dataset.unit] || UNITS.count;
  const tops = stacked ? stack(series) : series;
  const order = tops.map((_, n) => n);
  if (stacked) order.reverse(); // the tallest behind
  const bars = uPlot.paths.bars({ size: [0.8, 48], radius: 0.08 });
  const lines = order.map((n) => ({
    label: names[n],
    stroke: colour(`--chart-${(n % 8) + 1}`),
    width: stacked ? 0 : 2,
    fill: stacked ? colour(`--chart-${(n % 8) + 1}`) : undefined,
    paths: stacked ? bars : undefined,
    points: { show: !stacked && x.length < 40 },
    value: (_, __, ___, at) => (at == null || series[n][at] == null ? "" : unit(series[n][at])),
  }));
  const gap = x.length > 1 ? x[1] - x[0] : 86400;
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  new uPlot({
    width: place.clientWidth,
    height: 240,
    padding: [12, 8, 0, 0],
    legend: { live: true },
    cursor: { drag: { x: false, y: false }, points: { show: !stacked } },
    scales: {
      x: { time: false, range: [x[0] - gap * 0.6, x[x.length - 1] + gap * 0.6] },
      y: { range: (_, __, top) => [0, top > 0 ? top * 1.08 : 1] },
    },
    axes: [
      { ...axis, size: 32, grid: { show: false }, splits: () => spread(x, place.clientWidth), values: (_, at) => at.map((v) => labels[x.indexOf(v)] ?? "") },
      { ...axis, size: 64, values: told(figure.dataset.unit, unit), ...(unit === UNITS.count ? { incrs: WHOLE } : {}) },
    ],
    series: [{ label: first, value: (_, v) => (v == null ? "" : labels[x.indexOf(v)] ?? "") }, ...lines],
  }, [x, ...order.map((n) => tops[n])], place);
}

function stack(series) {
  const sums = new Array(series[0].length).fill(0);
  return series.map((values) => values.map((value, at) => (sums[at] += value ?? 0)));
}

function spread(x, width) {
  const step = Math.max(1, Math.ceil(x.length / Math.max(2, Math.floor(width / 130))));
  return x.filter((_, at) => at % step === 0);
}

// A canvas knows no light-dark(): the browser says which colour that is now.
function resolve(value) {
  const probe = document.createElement("i");
  probe.hidden = true;
  document.body.append(probe);
  probe.style.color = value;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function drawAll() {
  if (typeof uPlot === "undefined") return;
  for (const figure of document.querySelectorAll("figure[data-chart]")) draw(figure);
}

document.addEventListener("DOMContentLoaded", drawAll);
document.addEventListener("htmx:after:swap", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
let resizing;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(drawAll, 150);
});
