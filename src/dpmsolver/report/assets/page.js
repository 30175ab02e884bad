"use strict";
// Names come from a results file: they enter the page as text only, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = 7;
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]]; // with the colours, 28 curves that differ in both cues taken together
const MARKS = ["circle", "triangle", "rect", "rectRot", "crossRot"];
const state = { measure: data.measures[0], hidden: new Set(), stop: data.start, chart: null, wholeRange: false };

const byId = (id) => document.getElementById(id);
const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (index) => variable(`--curve-${index % COLOURS}`);
const dash = (index) => DASHES[index % DASHES.length];

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// ---- The chart

// A logarithmic axis has no place for what is not above 0: such a value is left out, and such a bound ends at the smallest value.
function smallest() {
  const figures = data.curves.flatMap((curve) => curve.points.map((point) => point.measures[state.measure.key]));
  return Math.min(...figures.filter((given) => given && given.value > 0).map((given) => given.value));
}

function pointsOf(curve, bound) {
  const floor = state.measure.log ? 0 : -Infinity;
  return curve.points
    .map((point) => ({ x: point.evaluations, given: point.measures[state.measure.key] }))
    .filter(({ given }) => given && given.value !== null && given.value > floor)
    .map(({ x, given }) => {
      const at = given[bound] === null ? given.value : given[bound];
      return { x, y: at > floor ? at : smallest(), text: given.text };
    })
    .sort((a, b) => a.x - b.x);
}

function datasetsOf(curve, index) {
  const stroke = colour(index);
  const edge = { curve: index, band: true, borderWidth: 0, pointRadius: 0, pointHoverRadius: 0, pointHitRadius: 0, order: 2 };
  return [
    { ...edge, data: pointsOf(curve, "low"), fill: false },
    { ...edge, data: pointsOf(curve, "high"), fill: "-1", backgroundColor: `${stroke}24` },
    {
      curve: index, label: curve.name, data: pointsOf(curve, "value"), borderColor: stroke, backgroundColor: stroke,
      borderWidth: 2, borderDash: dash(index), pointStyle: MARKS[index % MARKS.length], pointRadius: 3.5, pointHoverRadius: 6,
      pointBorderWidth: 1.5, fill: false, order: 1,
    },
  ].map((dataset) => ({ ...dataset, hidden: state.hidden.has(index) }));
}

// Level lines: what the reference reaches, and yardsticks.
const levels = {
  id: "levels",
  afterDatasetsDraw(chart) {
    const { ctx, chartArea: area, scales } = chart;
    const tops = [];
    ctx.save();
    ctx.font = `12px ${Chart.defaults.font.family}`;
    ctx.textAlign = "left";
    state.measure.lines.forEach((line, index) => {
      const y = scales.y.getPixelForValue(line.value);
      if (!(y >= area.top - 1 && y <= area.bottom + 1)) return;
      ctx.strokeStyle = variable("--ink");
      ctx.lineWidth = 1.25;
      ctx.setLineDash(index ? [1, 4] : [5, 3]);
      ctx.beginPath();
      ctx.moveTo(area.left, y);
      ctx.lineTo(area.right, y);
      ctx.stroke();
      let top = y + 5 > area.bottom - 14 ? y - 18 : y + 5; // under its line, or above it at the bottom of the chart
      while (tops.some((other) => Math.abs(other - top) < 16)) top -= 16;
      tops.push(top);
      const label = `${line.title}  ${line.short}`;
      ctx.globalAlpha = 0.85;
      ctx.fillStyle = variable("--card");
      ctx.fillRect(area.left + 6, top - 1, ctx.measureText(label).width + 8, 15);
      ctx.globalAlpha = 1;
      ctx.fillStyle = variable("--soft");
      ctx.textBaseline = "top";
      ctx.fillText(label, area.left + 10, top);
    });
    ctx.restore();
  },
};

function shortNumber(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(0).replace("+", "");
  return String(Number(value.toPrecision(4)));
}

function logarithmicLabel(value, index, ticks) {
  const leading = Number((value / 10 ** Math.floor(Math.log10(value) + 1e-9)).toPrecision(6));
  const wanted = ticks.length > 25 ? [1] : ticks.length > 12 ? [1, 3] : [1, 2, 3, 5];
  return wanted.includes(leading) ? shortNumber(value) : "";
}

// Runs that diverge would press all others flat: the chart ends a little above the others, until the whole range is asked for.
// One diverges that is off by ten times the median of its budget.
function ceiling() {
  if (state.measure.better !== "lower") return undefined;
  const shown = data.curves.filter((curve, index) => !state.hidden.has(index)).flatMap((curve) => pointsOf(curve, "value"));
  const median = (values) => values.sort((one, other) => one - other)[Math.floor((values.length - 1) / 2)];
  const usual = shown.filter(({ x, y }) => y <= 10 * median(shown.filter((point) => point.x === x).map((point) => point.y)));
  const highest = (points) => Math.max(...points.map((point) => point.y), 0);
  return highest(shown) > 3 * highest(usual) ? 1.5 * highest(usual) : undefined;
}

function showRange() {
  const end = ceiling();
  byId("range").hidden = end === undefined;
  byId("range").setAttribute("aria-pressed", String(state.wholeRange));
  return state.wholeRange ? undefined : end;
}

function scales() {
  const grid = { color: variable("--line") };
  const ticks = { color: variable("--soft"), font: { size: 12 } };
  const xs = data.curves.flatMap((curve) => curve.points.map((point) => point.evaluations));
  const shown = state.measure.lines.map((line) => line.value).filter((value) => !state.measure.log || value > 0);
  return {
    x: {
      type: "logarithmic", min: Math.min(...xs) / 1.12, max: Math.max(...xs) * 1.12, grid, border: grid,
      title: { display: true, text: "network evaluations", color: variable("--soft") },
      ticks: { ...ticks, callback: (value) => String(value), maxRotation: 0, autoSkipPadding: 10 },
      afterBuildTicks: (axis) => { axis.ticks = data.budgets.map((value) => ({ value })); },
    },
    y: {
      type: state.measure.log ? "logarithmic" : "linear", grid, border: grid,
      max: showRange(),
      suggestedMin: shown.length ? Math.min(...shown) : undefined,
      suggestedMax: shown.length ? Math.max(...shown) : undefined,
      grace: state.measure.log ? undefined : "4%",
      ticks: { ...ticks, callback: state.measure.log ? logarithmicLabel : shortNumber },
    },
  };
}

function tooltip() {
  return {
    filter: (item) => !item.dataset.band, itemSort: (a, b) => (state.measure.better === "lower" ? a.parsed.y - b.parsed.y : b.parsed.y - a.parsed.y),
    backgroundColor: variable("--ink"), titleColor: variable("--paper"), bodyColor: variable("--paper"), padding: 10, boxPadding: 5, usePointStyle: true,
    callbacks: {
      title: (items) => (items.length ? `${shortNumber(items[0].parsed.x)} evaluations` : ""),
      label: (item) => ` ${item.dataset.label}  ${item.raw.text}`,
    },
  };
}

// Curves that have nothing of this measure, and why.
function showAbsent() {
  const { key } = state.measure;
  const words = data.curves
    .filter((curve) => curve.points.length && curve.points.every((point) => !point.measures[key] && point.missing[key]))
    .map((curve) => `${curve.name} ${curve.points[0].missing[key]}`);
  byId("absent").textContent = `Not in this chart: ${words.join("; ")}.`;
  byId("absent").hidden = !words.length;
}

function drawChart() {
  if (state.chart) state.chart.destroy();
  const better = element("span", {}, state.measure.better === "lower" ? " – lower is better" : " – higher is better");
  byId("measure").replaceChildren(element("b", {}, state.measure.title), better);
  showAbsent();
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  state.chart = new Chart(byId("chart"), {
    type: "line",
    data: { datasets: data.curves.flatMap(datasetsOf) },
    options: {
      animation: false, maintainAspectRatio: false, parsing: false, scales: scales(), interaction: { mode: "nearest", axis: "x", intersect: false },
      plugins: { legend: { display: false }, tooltip: tooltip() },
    },
    plugins: [levels],
  });
}

function swatch(index) {
  const namespace = "http://www.w3.org/2000/svg";
  const marks = { circle: "M14 2a4 4 0 1 0 .01 0z", triangle: "M14 1.5l4.5 8h-9z", rect: "M10.5 2.5h7v7h-7z", rectRot: "M14 1l5 5-5 5-5-5z", crossRot: "M10.5 2.5l7 7m0-7l-7 7" };
  const line = document.createElementNS(namespace, "path");
  const mark = document.createElementNS(namespace, "path");
  line.setAttribute("d", "M0 6h28");
  line.setAttribute("stroke-dasharray", dash(index).join(" "));
  mark.setAttribute("d", marks[MARKS[index % MARKS.length]]);
  mark.style.fill = `var(--curve-${index % COLOURS})`;
  const picture = document.createElementNS(namespace, "svg");
  for (const [name, value] of Object.entries({ width: 28, height: 12, "aria-hidden": "true", fill: "none", "stroke-width": 2 })) picture.setAttribute(name, value);
  picture.style.stroke = `var(--curve-${index % COLOURS})`;
  picture.append(line, mark);
  return picture;
}

function hide(indices, hidden) {
  for (const index of indices) hidden ? state.hidden.add(index) : state.hidden.delete(index);
  byId("legend").childNodes.forEach((button, index) => button.setAttribute("aria-pressed", String(!state.hidden.has(index))));
  state.chart.data.datasets.forEach((dataset, index) => state.chart.setDatasetVisibility(index, !state.hidden.has(dataset.curve)));
  state.chart.options.scales.y.max = showRange();
  state.chart.update();
}

function setUpChart() {
  byId("show-all").hidden = byId("hide-all").hidden = data.curves.length < 2;
  const every = [...data.curves.keys()];
  data.curves.forEach((curve, index) => {
    const button = element("button", { type: "button", "aria-pressed": "true" }, swatch(index), curve.name);
    button.addEventListener("click", () => hide([index], !state.hidden.has(index)));
    byId("legend").append(button);
  });
  byId("show-all").addEventListener("click", () => hide(every, false));
  byId("hide-all").addEventListener("click", () => hide(every, true));
  byId("range").addEventListener("click", () => { state.wholeRange = !state.wholeRange; drawChart(); });
  byId("measures").hidden = data.measures.length < 2;
  data.measures.forEach((measure, index) => {
    const input = element("input", { type: "radio", name: "measure", value: measure.key });
    input.checked = index === 0;
    input.addEventListener("change", () => { state.measure = measure; drawChart(); showStop(); });
    byId("measures").append(element("label", {}, input, element("span", {}, measure.title)));
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawChart);
  drawChart();
}

// ---- What depends on the slider

function setUpStrips() {
  const box = byId("strips");
  if (!box) return;
  const { squares, pixels } = data.layout;
  box.style.setProperty("--squares", squares);
  box.classList.toggle("pixels", pixels);
  box.classList.toggle("tiles", squares < 2);
  const row = (kind, name, alternative) => {
    const strip = element("div", { class: squares > 1 ? "strip many" : "strip" }, element("img", { alt: alternative }), element("p"));
    box.append(element("div", { class: kind }, element("div", { class: "name" }, name, element("small")), strip));
  };
  if (data.reference) {
    row("row reference", "reference", "samples of the reference");
    box.querySelector("img").src = data.reference;
  }
  data.curves.forEach((curve) => row("row curve", curve.name, `samples of ${curve.name}`));
}

function showStrips(budget) {
  document.querySelectorAll("#strips .curve").forEach((row, index) => {
    const curve = data.curves[index];
    const picture = curve.pictures[budget];
    const strip = row.querySelector(".strip");
    strip.classList.toggle("none", !picture);
    if (picture) strip.querySelector("img").src = picture;
    else strip.querySelector("img").removeAttribute("src");
    const why = curve.skipped[budget];
    const ran = curve.points.find((point) => point.nfe === budget);
    strip.querySelector("p").textContent = ran ? "no picture of this run" : `no run with ${budget} evaluations${why ? `: ${why}` : ""}`;
    const given = ran && ran.measures[state.measure.key];
    row.querySelector("small").textContent = given ? given.short : "";
  });
}

function boundsOfGrids() {
  const places = data.curves.flatMap((curve) => Object.values(curve.grids).flatMap((grid) => grid.places));
  const finite = places.filter((place) => typeof place === "number");
  const low = finite.length ? Math.min(...finite) : -1;
  const high = finite.length ? Math.max(...finite) : 1;
  return high > low ? [low, high] : [low - 1, high + 1];
}

function setUpGrids() {
  const box = byId("grids");
  if (!box) return;
  data.curves.forEach((curve, index) => {
    if (!Object.keys(curve.grids).length) return;
    const track = element("div", { class: "track", "data-curve": index });
    box.append(element("div", { class: "row" }, element("div", { class: "name" }, curve.name), track));
  });
  const [low, high] = boundsOfGrids();
  const step = [1, 2, 5, 10, 20, 50].find((size) => (high - low) / size <= 9) || 100;
  const axis = element("div", { class: "track" });
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    axis.append(element("span", { style: `left:${(100 * (value - low)) / (high - low)}%` }, String(value).replace("-", "−")));
  }
  const ends = element("p", { class: "ends" }, element("span", {}, "noise"), element("span", {}, "half-log-SNR"), element("span", {}, "data"));
  box.append(element("div", { class: "row axis" }, element("div", { class: "name" }), element("div", {}, axis, ends)));
}

function showGrids(budget) {
  const [low, high] = boundsOfGrids();
  document.querySelectorAll("#grids [data-curve]").forEach((track) => {
    const index = Number(track.dataset.curve);
    const grid = data.curves[index].grids[budget];
    const ticks = (grid ? grid.places : []).map((place, number) => {
      const share = place === "low" ? 0 : place === "high" ? 1 : (place - low) / (high - low);
      const where = typeof place === "number" ? shortNumber(place) : place === "low" ? "−∞" : "∞";
      const time = grid.times[number] ? `, t = ${grid.times[number]}` : "";
      const kind = typeof place === "number" ? "tick" : `tick ${place}`;
      return element("i", {
        class: kind, style: `left:${100 * share}%;background:var(--curve-${index % COLOURS})`, title: `evaluation ${number + 1}: λ = ${where}${time}`,
      });
    });
    track.replaceChildren(...ticks);
    track.parentElement.classList.toggle("none", !grid);
  });
}

function showStop() {
  const output = byId("evaluations");
  if (!output) return;
  const budget = data.budgets[state.stop];
  const words = budget === 1 ? "evaluation" : "evaluations";
  output.replaceChildren(element("b", {}, String(budget)), ` ${words}`);
  const slider = byId("slider");
  if (slider) slider.setAttribute("aria-valuetext", `${budget} ${words}`);
  document.querySelectorAll("#stops span").forEach((stop, index) => {
    stop.classList.toggle("now", index === state.stop);
    stop.classList.toggle("between", (index - state.stop) % 2 !== 0);
  });
  showStrips(budget);
  showGrids(budget);
}

function setUpSlider() {
  const slider = byId("slider");
  if (!slider) return;
  slider.value = state.stop; // some browsers restore another one after a reload
  byId("stops").classList.toggle("many", data.budgets.length > 8);
  data.budgets.forEach((budget, index) => {
    byId("stops").append(element("span", { style: `left:${(100 * index) / (data.budgets.length - 1)}%` }, String(budget)));
  });
  slider.addEventListener("input", () => { state.stop = Number(slider.value); showStop(); });
}

// ---- Tables that sort

function sortBy(table, column, direction) {
  const read = (row) => row.cells[column].dataset.value;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const [left, right] = [read(a), read(b)];
    if (left === "" || right === "") return (left === "") - (right === ""); // what was not measured comes last
    return direction * (Number(left) - Number(right));
  });
  table.tBodies[0].append(...rows);
}

function setUpTables() {
  document.querySelectorAll("table.sortable").forEach((table) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = element("button", { type: "button" }, ...head.childNodes);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sortBy(table, column, ascending ? 1 : -1);
      });
    });
  });
}

setUpChart();
setUpStrips();
setUpGrids();
setUpSlider();
setUpTables();
showStop();
