// The page: what the server's resources say, as charts, tiles and tables. Text from a model is only ever text content.

const query = new URLSearchParams(location.search);
const token = query.get("token");
const DOUBLE = 250; // milliseconds in which a second click makes a double one, which shows no version
const WAIT = 400; // milliseconds between two refreshes while versions arrive
const IMPORTANCE_WAIT = 10_000; // milliseconds between two computations of a live model
const NAMES = { prequential: "prequential", as_served: "as served", majority_class: "majority class", no_change: "no change", mean: "mean" };
const MAIN = [ // figures that the first chart may show, the best first; `up`: more is better
  { name: "accuracy", title: "Accuracy", up: true, share: true },
  { name: "subset_accuracy", title: "Subset accuracy", up: true, share: true },
  { name: "mae", title: "Mean absolute error", up: false },
];
const MORE = [
  { name: "log_loss", title: "Log loss" },
  { name: "rmse", title: "Root mean squared error" },
  { name: "f1_macro", title: "Macro F1", up: true, share: true },
  { name: "r2", title: "R²", up: true },
  { name: "hamming_loss", title: "Hamming loss" },
];

const state = { model: 0, from: null, to: null, span: null, version: null, why: null, compare: null }; // version null: live; 1: explained, compared
let models = [], series = null, moment = null, samples = null, charts = [], pending = false, again = false, last = 0, waiting = 0, ended = false;

const element = (id) => document.getElementById(id);
const shown = (value, digits = 4) => value == null ? "–" : new Intl.NumberFormat(undefined, { maximumSignificantDigits: digits, notation: value && Math.abs(value) < 1e-4 ? "scientific" : "standard" }).format(value);
const sentence = (text) => text && text[0].toUpperCase() + text.slice(1);
const share = (value) => value == null ? "–" : new Intl.NumberFormat(undefined, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(value);
const instant = (seconds) => new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" }).format(new Date(seconds * 1000));
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function ago(seconds) {
  if (seconds < 60) return `${shown(Math.max(seconds, 0), 2)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${shown(seconds / 3600, 2)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text != null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const inside = element("data") && JSON.parse(element("data").textContent); // a report has its data inside

// What the server would say, of the data inside.
function found(path, { from, to }) {
  if (path === "models") return inside.models;
  const [, number, what, version] = path.split("/");
  const model = inside.models[number], { numbers, times, columns } = model.timeline;
  if (what === "timeline") {
    const kept = times.map((time) => (from == null || time >= from) && (to == null || time <= to));
    const part = (values) => values.filter((_, row) => kept[row]);
    return { ...model.timeline, numbers: part(numbers), times: part(times), columns: Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, part(values)])) };
  }
  if (what === "samples") return model.samples;
  const wanted = version === "head" ? model.head : Number(version);
  if (model.versions[wanted]) return model.versions[wanted];
  const row = Math.max(numbers.findLastIndex((each) => each <= wanted), 0);
  const figures = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[row]]));
  return { number: numbers[row], head: model.head, written_at: new Date(times[row] * 1000).toISOString(), figures, members: [], events: [], rejected_by_reason: {} };
}

async function fetched(path, parameters = {}) {
  if (inside) return found(path, parameters);
  const url = new URL(`api/${path}`, document.baseURI);
  for (const [name, value] of Object.entries({ ...parameters, token }))
    for (const each of Array.isArray(value) ? value : value == null ? [] : [value]) url.searchParams.append(name, each);
  const response = await fetch(url);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? response.statusText);
  return body;
}

// ---- The view is in the link, so that it can be sent

function readLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  const number = (name) => given.has(name) && given.get(name) !== "" ? Number(given.get(name)) : null;
  Object.assign(state, { model: number("model") ?? 0, from: number("from"), to: number("to"), span: number("span"), version: number("version"), why: number("why"), compare: number("compare") });
}

function writeLink() {
  const link = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) if (value != null && !(name === "model" && value === 0)) link.set(name, value);
  history.replaceState(null, "", link.size ? `#${link}` : location.pathname + location.search);
}

function show(changes) {
  Object.assign(state, changes);
  writeLink();
  refresh();
}

// ---- Loading

async function refresh() {
  if (pending) { again = true; return; }
  clearTimeout(waiting);
  pending = true;
  try {
    const now = inside ? lastOf(inside.models[state.model].timeline.times) : Date.now() / 1000;
    const names = columns(series?.names ?? []);
    const from = state.span == null ? state.from : now - state.span;
    const width = Math.round(Math.min(Math.max(document.body.clientWidth, 600), 1500) / 2); // a tab that is not shown yet may have no width
    document.body.classList.toggle("compared", state.compare != null);
    if (state.compare != null) {
      [series, moment] = [await compared(width), null];
      draw();
    } else [series, moment, samples] = await Promise.all([
      fetched(`models/${state.model}/timeline`, { column: names, from, to: state.to, intervals: width }),
      ...["versions", "samples"].map((what) => fetched(`models/${state.model}/${what}/${state.version ?? "head"}`).catch(() => null)),
    ]);
    if (state.compare == null) {
      if (!names.length && series.names.length) again = true; // the first look found the columns' names
      draw();
    }
  } catch (error) {
    if (error instanceof TypeError && !inside) lost(); // what fetch throws without a connection
    else offline(error.message);
  }
  last = Date.now();
  pending = false;
  if (again) { again = false; setTimeout(refresh, WAIT / 4); }
}

function offline(message) {
  element("state").textContent = message;
  element("state").classList.add("off");
}

// Without a word from the server it may be the network. An EventSource tries again by itself, as it may be started again.
function lost() {
  offline(`${ended ? "The server has ended" : "The server has ended or cannot be reached"}: this page no longer changes. If the directory is kept: streaming-nn page ${models[state.model]?.directory ?? "DIR"}`);
}

function arrived(event) {
  ended = false;
  const problem = JSON.parse(event.data).problems[state.model];
  element("state").textContent = problem || "connected";
  element("state").classList.toggle("off", Boolean(problem));
  clearTimeout(waiting);
  waiting = setTimeout(refresh, Math.max(0, WAIT - (Date.now() - last)));
}

function listen() {
  const url = new URL("api/events", document.baseURI);
  if (token) url.searchParams.set("token", token);
  const events = new EventSource(url);
  events.addEventListener("versions", arrived);
  events.addEventListener("ended", () => { ended = true; lost(); });
  events.onerror = lost;
}

// ---- Several models: one line each, over the rows that they have learned

async function compared(intervals) {
  const wanted = [...MAIN, ...MORE].map((each) => path("prequential", each.name));
  const each = await Promise.all(models.map((_, i) => fetched(`models/${i}/timeline`, { column: ["rows", ...wanted], intervals })));
  const names = wanted.filter((name) => each.some((one) => one.names.includes(name)));
  const tables = each.map((one) => {
    const rows = one.columns.rows ?? [], kept = rows.map((row, i) => row != null && row !== rows[i - 1] ? i : -1).filter((i) => i >= 0);
    return [kept.map((i) => rows[i]), ...names.map((name) => kept.map((i) => one.columns[name]?.[i] ?? null))];
  }).filter((table) => table[0].length);
  const [times, ...values] = tables.length ? uPlot.join(tables) : [[]];
  const keys = models.filter((_, i) => each[i].columns.rows?.some((row) => row != null)).flatMap((_, i) => names.map((name) => `${i} ${name}`));
  return { times, numbers: [], names, marks: [], columns: Object.fromEntries(keys.map((key, i) => [key, values[i]])) };
}

// ---- Which figures there are

const path = (what, name) => `${what}.window.${name}`;
const main = (names) => MAIN.find((each) => names.includes(path("prequential", each.name)));
const baselines = (names, name) => names.filter((each) => each.startsWith("baselines.") && each.endsWith(`.window.${name}`));
const weights = (names) => names.filter((each) => each.startsWith("weight."));

function plan(names) {
  const first = main(names);
  if (!first) return [];
  if (state.compare != null) {
    return [first, ...MORE].filter((each) => names.includes(path("prequential", each.name))).map((each) => ({
      title: each.title, note: "prequential, of the window, over the rows learned", share: each.share, rows: true,
      lines: Object.keys(series.columns).filter((key) => key.endsWith(` ${path("prequential", each.name)}`)),
    }));
  }
  const drawn = [first, ...MORE].filter((each) => names.includes(path("prequential", each.name))).map((each) => ({
    title: each.title, note: "of the window", share: each.share, up: each.up,
    lines: [path("prequential", each.name), path("as_served", each.name), ...baselines(names, each.name)].filter((name) => names.includes(name)),
  }));
  const rest = [
    { title: "Records per second", note: "received, learned or rejected", lines: ["records_per_second"] },
    { title: "Lag", note: "records that waited when a version was written", lines: ["lag"].filter((each) => names.includes(each)) },
    { title: "Seconds from a record to its version", note: "of the oldest record, by its timestamp", lines: ["delay"].filter((each) => names.includes(each)) },
    { title: "Seconds of a micro-batch", note: "by step", lines: names.filter((each) => each.startsWith("seconds.")) },
    { title: "Weights of the members", lines: weights(names), share: true, kind: "weights" },
    { title: "Mini-batch", note: "rows of an optimizer step", lines: ["mini_batch"].filter((each) => names.includes(each)) },
  ];
  return [...drawn, ...rest].filter((each) => each.lines.length);
}

const columns = (names) => [...new Set([...plan(names).flatMap((each) => each.lines), ...names.filter((each) => each === "rows")])];

function label(name) {
  if (/^\d+ /.test(name)) return models[parseInt(name)].name;
  if (name.startsWith("weight.")) return name.slice(7);
  if (name.startsWith("seconds.")) return name.slice(8).replaceAll("_", " ");
  if (name === "records_per_second") return "records/s";
  if (name === "mini_batch") return "mini-batch";
  if (name === "delay") return "seconds";
  const parts = name.split(".");
  return NAMES[parts[parts.indexOf("window") - 1]] ?? name;
}

// ---- Drawing

function draw() {
  drawCharts();
  element("compare").setAttribute("aria-pressed", String(state.compare != null));
  if (state.compare != null) {
    drawComparison();
    return;
  }
  drawScrubber();
  drawTiles();
  drawTables();
  drawSamples();
  drawImportance();
  drawExplanation();
}

function drawCharts() {
  const wanted = plan(series.names);
  const key = JSON.stringify(wanted);
  if (element("charts").dataset.key !== key) {
    for (const chart of charts) chart.plot.destroy();
    element("charts").replaceChildren();
    element("charts").dataset.key = key;
    charts = wanted.map(newChart);
  }
  for (const chart of charts) {
    const data = [series.times, ...chart.lines.map((name) => series.columns[name] ?? series.times.map(() => null))];
    chart.plot.setData(data);
    followCursor(chart.plot);
    chart.figure.setAttribute("aria-label", described(chart));
  }
}

function described(chart) {
  const i = atMoment(), values = chart.lines.map((name) => `${label(name)} ${format(chart)(ofMoment(name) ?? series.columns[name]?.[i])}`);
  return `${chart.title}: ${chart.kind === "weights" ? `${leading(chart.plot)}; ` : ""}${values.join(", ")}`;
}

// The point of the version that is shown.
function atMoment() {
  const row = state.version == null ? -1 : series.numbers.findIndex((number) => number >= state.version);
  return row < 0 ? series.times.length - 1 : row;
}

// A figure of the version that is shown: of a long log a chart's points are the least and the largest of many versions.
function ofMoment(name) {
  if (!moment || state.compare != null) return null;
  if (moment.figures) return figure(name);
  if (name.startsWith("weight.")) return moment.members?.find((each) => name === `weight.${each.member}`)?.weight ?? null;
  return ["lag", "delay", "mini_batch"].includes(name) ? moment[name] : figure(name);
}

// What a chart writes is of the point under the cursor, or else of the version that is shown.
const readAt = (u) => u.cursor.idx ?? atMoment();
const read = (u, name, value) => (u.cursor.idx == null ? ofMoment(name) : null) ?? value;

function followCursor(u) {
  const figure = u.root.closest("figure");
  if (figure.dataset.kind === "weights") {
    figure.querySelector("small").textContent = leading(u);
    u.redraw(false, false);
  } else if (u.cursor.idx == null && u.data[0].length) u.setLegend({ idx: atMoment() });
}

const lastOf = (values) => values?.findLast((value) => value != null) ?? null;
const format = (chart) => (value) => chart.share ? share(value) : shown(value);
const HUES = 5, DASHES = [{ border: "solid" }, { dash: [7, 3], border: "dashed" }, { dash: [2, 3], border: "dotted" }];

// Few hues, which differ for the colour-blind too; then dashes, on the chart and in its legend.
function look(name, i) {
  if (name.startsWith("baselines")) return { stroke: () => color("--baseline"), width: 1.2, ...DASHES[1 + (i % 2)] };
  return { stroke: () => color(`--s${(i % HUES) + 1}`), width: 1.6, ...DASHES[Math.floor(i / HUES) % DASHES.length] };
}

const HEIGHT = 210, LANE = 34, NAME = 14; // pixels: of a chart, of a member in the chart of weights, of its name there
const height = (chart) => chart.kind === "weights" ? Math.max(HEIGHT, LANE * chart.lines.length + 46) : HEIGHT;

function newChart(wanted, position) {
  const figure = make("figure", null, { role: "img", "data-kind": wanted.kind ?? "" });
  const caption = make("figcaption", `${wanted.title} `);
  caption.append(make("small", wanted.note ?? ""));
  figure.append(caption);
  element("charts").append(figure);
  const chart = { ...wanted, figure }, lanes = wanted.kind === "weights";
  const axis = { stroke: () => color("--quiet"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const line = (name, i) => ({
    label: label(name), ...look(name, i), points: { show: false }, spanGaps: Boolean(wanted.rows), ...(lanes && { paths: () => null }), value: (u, value) => format(chart)(read(u, name, value)),
  });
  chart.plot = new uPlot({
    width: figure.clientWidth - 28, height: height(wanted),
    cursor: { sync: { key: "page" }, drag: { x: true, y: false, setScale: false }, points: { show: !lanes } },
    legend: { show: !lanes, markers: { dash: (u, i) => u.series[i].border } },
    scales: { x: { time: !wanted.rows }, y: { range: (u, low, high) => lanes ? [0, 1] : range(chart, low, high) } },
    axes: [{ ...axis, space: 80, values: wanted.rows ? undefined : instants }, { ...axis, size: 54, ...(lanes ? { grid: { show: false }, values: () => [] } : { values: (u, ticks) => ticks.map(format(chart)) }) }],
    series: [{ label: wanted.rows ? "rows" : "time", value: (u, value) => wanted.rows ? shown(value, 9) : value == null ? "–" : instant(u.cursor.idx == null && moment?.written_at ? Date.parse(moment.written_at) / 1000 : value) }, ...wanted.lines.map(line)],
    hooks: { setSelect: [zoomed], draw: lanes ? [drawLanes, drawMarks, nameLanes] : [drawMarks], setCursor: [followCursor], ready: [(u) => clicks(u)] },
  }, [[], ...wanted.lines.map(() => [])], figure);
  return chart;
}

// Ticks of time in the reader's format, with the date below where it changes: uPlot's own are wider than a phone has room for.
function instants(u, ticks, axis, space, seconds) {
  const date = new Intl.DateTimeFormat(undefined, { dateStyle: "short" });
  const time = new Intl.DateTimeFormat(undefined, { timeStyle: seconds < 60 ? "medium" : "short" });
  const dates = ticks.map((tick) => date.format(tick * 1000));
  if (seconds >= 86400) return dates;
  return ticks.map((tick, i) => time.format(tick * 1000) + (dates[i] === dates[i - 1] ? "" : `\n${dates[i]}`));
}

function range(chart, low, high) {
  if (low == null || high == null) return [0, 1];
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  return [chart.share ? Math.max(low - pad, 0) : low - pad, chart.share ? Math.min(high + pad, 1) : high + pad];
}

// ---- Weights: a lane for each member, as high as its weight and dark where it leads, so that no hues have to be distinguished

const weightAt = (u, lane, i) => u.data[lane + 1][i] ?? 0;

// The lane of the member with the largest weight; -1: none has any yet.
function leader(u, i) {
  let best = -1, most = 0;
  for (let lane = 0; lane < u.data.length - 1; lane++) if (weightAt(u, lane, i) > most) [best, most] = [lane, weightAt(u, lane, i)];
  return best;
}

// The members' weights that are written, and the lane of the largest.
function weightsRead(u) {
  const i = readAt(u), names = u.series.slice(1).map((each) => each.label);
  const values = names.map((name, lane) => read(u, `weight.${name}`, u.data[lane + 1][i]));
  const most = Math.max(...values.map((value) => value ?? 0));
  return { names, values, first: most > 0 ? values.indexOf(most) : -1 };
}

function leading(u) {
  const { names, values, first } = weightsRead(u);
  return first < 0 ? "" : `${names[first]} leads with ${share(values[first])}`;
}

function drawLanes(u) {
  const [times, ...lanes] = u.data, ink = u.ctx, { left, top, width, height } = u.bbox;
  const pace = height / lanes.length, most = lanes.flat().reduce((a, b) => Math.max(a, b), 1e-12);
  const across = times.map((time) => u.valToPos(time, "x", true)), leads = times.map((_, i) => leader(u, i));
  ink.save();
  ink.beginPath(); ink.rect(left, top, width, height); ink.clip();
  lanes.forEach((_, lane) => {
    const base = Math.round(top + pace * (lane + 1)), up = (i) => base - weightAt(u, lane, i) / most * (pace - NAME * devicePixelRatio);
    const area = (wanted, fill) => {
      ink.beginPath();
      for (let i = 0; i < times.length - 1; i++) {
        if (!wanted(i)) continue;
        ink.moveTo(across[i], base); ink.lineTo(across[i], up(i));
        for (; i < times.length - 1 && wanted(i); i++) ink.lineTo(across[i + 1], up(i + 1));
        ink.lineTo(across[i], base);
      }
      ink.fillStyle = fill; ink.fill();
    };
    area(() => true, color("--dim"));
    area((i) => leads[i] === lane, color("--s1"));
    ink.fillStyle = color("--line"); ink.fillRect(left, base - devicePixelRatio, width, devicePixelRatio);
  });
  ink.restore();
}

function nameLanes(u) {
  const ink = u.ctx, { left, top, height } = u.bbox, { names, values, first } = weightsRead(u), pace = height / names.length;
  ink.save();
  ink.textBaseline = "middle";
  for (let lane = 0; lane < names.length; lane++) {
    const leads = lane === first, y = top + pace * lane + (NAME / 2) * devicePixelRatio;
    ink.font = `${leads ? "bold " : ""}${11 * devicePixelRatio}px system-ui`;
    ink.fillStyle = color(leads ? "--text" : "--quiet");
    const write = (text, x, align) => { ink.textAlign = align; ink.fillText(text, x, y); };
    write(names[lane], left + 6 * devicePixelRatio, "left");
    write(share(values[lane]), left - 6 * devicePixelRatio, "right");
  }
  ink.restore();
}

function drawMarks(u) {
  const ink = u.ctx, from = u.scales.x.min, to = u.scales.x.max;
  ink.save();
  ink.lineWidth = devicePixelRatio;
  const ofMembers = u.root.closest("figure").dataset.kind === "weights";
  for (const mark of series?.marks ?? []) {
    if (mark.time < from || mark.time > to) continue;
    if (mark.event.event === "member restarted" && !ofMembers) continue; // frequent, and of no other chart
    const x = Math.round(u.valToPos(mark.time, "x", true));
    ink.strokeStyle = color("--bad");
    ink.setLineDash([2, 3]);
    ink.beginPath(); ink.moveTo(x, u.bbox.top); ink.lineTo(x, u.bbox.top + u.bbox.height); ink.stroke();
  }
  if (state.version != null && moment?.written_at) {
    const x = Math.round(u.valToPos(Date.parse(moment.written_at) / 1000, "x", true));
    ink.strokeStyle = color("--accent");
    ink.setLineDash([]);
    ink.beginPath(); ink.moveTo(x, u.bbox.top); ink.lineTo(x, u.bbox.top + u.bbox.height); ink.stroke();
  }
  ink.restore();
}

function zoomed(u) {
  if (u.select.width < 6 || state.compare != null) return;
  const from = u.posToVal(u.select.left, "x"), to = u.posToVal(u.select.left + u.select.width, "x");
  for (const chart of charts) chart.plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  show({ from, to, span: null });
}

function clicks(u) {
  let pressed = null, single = 0;
  u.over.addEventListener("mousedown", (event) => { pressed = event.clientX; });
  u.over.addEventListener("click", (event) => {
    if (state.compare != null || pressed == null || Math.abs(event.clientX - pressed) > 4 || u.cursor.idx == null) return;
    const version = series.numbers[u.cursor.idx];
    clearTimeout(single);
    single = setTimeout(() => show({ version, why: inside ? null : 1 }), DOUBLE);
  });
  u.over.addEventListener("dblclick", () => { clearTimeout(single); show({ from: null, to: null, span: null }); });
}

function drawScrubber() {
  const scrubber = element("scrubber"), head = moment?.head ?? 0;
  scrubber.max = Math.max(series.numbers.length - 1, 0);
  const at = state.version ?? head;
  let row = series.numbers.findIndex((number) => number >= at);
  if (row < 0) row = series.numbers.length - 1;
  if (document.activeElement !== scrubber || state.version == null) scrubber.value = row;
  element("live").setAttribute("aria-pressed", String(state.version == null));
  const text = !moment ? "no version yet" : `version ${moment.number}, ${moment.error ? "damaged" : instant(Date.parse(moment.written_at) / 1000)}`;
  element("moment").textContent = text;
  scrubber.setAttribute("aria-valuetext", text);
  for (const button of document.querySelectorAll("[data-range]"))
    button.setAttribute("aria-pressed", String(state.from == null && state.to == null && (state.span ?? "") == button.dataset.range));
}

function figure(name) {
  if (moment?.figures) return moment.figures[name] ?? null;
  return name.split(".").reduce((inside, key) => inside?.[key], moment?.metrics) ?? null;
}

function drawTiles() {
  const first = main(series.names);
  const tiles = element("tiles");
  if (!first || !moment || moment.error) { tiles.replaceChildren(); write(unmeasured()); return; }
  const text = first.share ? share : shown;
  const mine = figure(path("prequential", first.name)), served = figure(path("as_served", first.name));
  const others = baselines(series.names, first.name).map((name) => [label(name), figure(name)]);
  const age = Date.now() / 1000 - Date.parse(moment.written_at) / 1000;
  const rate = lastOf(series.columns.records_per_second);
  const entries = [
    [text(mine), `${first.title.toLowerCase()}, prequential`], [text(served), "as served"],
    ...others.map(([name, value]) => [text(value), `${name} (baseline)`]),
    ...(state.version == null ? [[shown(rate, 3), "records per second"]] : []),
    ...(moment.lag != null ? [[shown(moment.lag, 3), "records waiting"]] : []),
    ...(moment.delay != null ? [[ago(moment.delay), "from a record to its version"]] : []),
    ...(state.version == null && !inside ? [[ago(age), "age of the version"]] : []),
    [shown(figure("rows"), 7), "rows learned"], [shown(moment.mini_batch), "mini-batch"],
  ];
  tiles.replaceChildren(...entries.map(([value, name]) => {
    const tile = make("div", null, { class: "tile" });
    tile.append(make("b", value), make("span", name));
    return tile;
  }));
  const best = others.map(([, value]) => value).filter((value) => value != null).reduce((a, b) => first.up ? Math.max(a, b) : Math.min(a, b), first.up ? -Infinity : Infinity);
  write(mine == null ? unmeasured() : `${judged(first, mine, served, best, text)}; the best baseline ${text(best)}.`);
}

function write(verdict) {
  if (element("verdict").textContent !== verdict) element("verdict").textContent = verdict;
}

const unmeasured = () => moment?.error ? `Version ${moment.number} cannot be read: ${moment.error}.` : moment ? `Version ${moment.number} has learned no rows yet.` : series.numbers.length ? `There is no version ${state.version ?? ""} to show.` : "Waiting for the first version.";

// It has fallen if it has lost more than a quarter of what the best version in view, up to the one that is shown,
// had gained over the best baseline. As for an explanation, a quarter; a window that is not full yet may be best by chance.
const LOST = 0.25;

function judged(first, mine, served, baseline, text) {
  const best = bestInView(first), gain = (from, to) => first.up ? to - from : from - to;
  const over = moment.window == null ? "the window" : `the last ${shown(Math.min(moment.window, figure("rows") ?? Infinity), 7)} rows`;
  const now = `${text(mine)} over ${over}, ${text(served)} as served`;
  if (best && gain(baseline, best.value) > 0 && gain(mine, best.value) > LOST * gain(baseline, best.value)) {
    const drift = series.marks.findLast((mark) => mark.event.event === "drift" && mark.version > best.version && mark.version <= moment.number);
    return `${first.title} ${first.up ? "fell" : "rose"}: ${now}; ${text(best.value)} at its best${drift ? `; drift detected in version ${drift.version}` : ""}`;
  }
  return `${gain(baseline, mine) > 0 ? "It learns" : "It is no better than a baseline"}: ${first.title.toLowerCase()} ${now}`;
}

function bestInView(first) {
  const values = series.columns[path("prequential", first.name)] ?? [], rows = series.columns.rows ?? [];
  let best = null;
  series.numbers.forEach((version, i) => {
    const value = values[i];
    if (version > moment.number || value == null || rows[i] == null || rows[i] < moment.window) return;
    if (!best || (first.up ? value >= best.value : value <= best.value)) best = { version, value };
  });
  return best;
}

function drawComparison() {
  const first = main(series.names);
  if (!first) return;
  const text = first.share ? share : shown;
  const found = models.map(({ name }, i) => [name, lastOf(series.columns[`${i} ${path("prequential", first.name)}`])]).filter(([, value]) => value != null);
  found.sort(([, a], [, b]) => first.up ? b - a : a - b);
  element("verdict").textContent = sentence(`${first.title.toLowerCase()} of the last window: ${found.map(([name, value]) => `${name} ${text(value)}`).join(", ")}.`);
}

// ---- Why: what changed between the version that is shown and a better one before it

const change = (pair, text) => `${text(pair[0])} → ${text(pair[1])}`;

async function drawExplanation() {
  const card = element("explanation"), wanted = state.why == null || !moment || moment.error ? "" : `${state.model} ${moment.number}`;
  element("why").setAttribute("aria-pressed", String(state.why != null));
  if (card.dataset.of === wanted) return;
  card.dataset.of = wanted;
  card.hidden = !wanted;
  if (!wanted) return;
  card.replaceChildren(make("h2", `What changed until version ${moment.number}`), make("p", "comparing the two versions", { class: "note" }));
  let parts;
  try {
    parts = explanation(await fetched(`models/${state.model}/explain/${moment.number}`));
  } catch (error) {
    parts = [make("p", error.message, { class: "note" })];
  }
  if (card.dataset.of === wanted) card.replaceChildren(...parts);
}

function explanation(found) {
  const [earlier, later] = found.versions, text = found.metric === "mae" ? shown : share;
  const name = (MAIN.find((each) => each.name === found.metric) ?? { title: found.metric }).title.toLowerCase();
  const sentences = [
    `${name} ${change(found.figures.prequential, text)}, as served ${change(found.figures.as_served, text)}; of the ${shown(found.rows, 7)} rows between: ${text(found.between)}.`,
    found.leaders && found.leaders[0] !== found.leaders[1] ? `${found.leaders[1]} leads the ensemble instead of ${found.leaders[0]}.` : found.leaders ? `${found.leaders[1]} still leads the ensemble.` : null,
    found.mini_batch[0] !== found.mini_batch[1] ? `Mini-batch ${change(found.mini_batch, shown)}.` : null,
    rejected(found),
    behind(found),
    found.events.length ? `Events: ${happened(found.events)}.` : "No event in them or between them.",
    ...found.notes.map((note) => `${note}.`),
  ].filter((each) => each).map(sentence);
  const parts = make("div", null, { class: "parts" });
  const changed = (list) => list.filter((each) => each.change > 0);
  parts.append(...[
    tableOf("Columns that moved most", ["column", "mean", "deviation", "shift"], changed(found.columns).map((each) => [each.name, change(each.mean, (v) => shown(v, 3)), change(each.deviation, (v) => shown(v, 3)), shown(each.shift, 2)])),
    tableOf("Classes that changed most", ["class", "share", "recall", "predicted instead"], changed(found.classes).map((each) => [String(each.label), change(each.share, share), change(each.recall, share), each.mistaken_for == null ? "–" : String(each.mistaken_for)])),
    tableOf("Targets that changed most", ["target", "mean", "deviation", "MAE"], changed(found.targets).map((each) => [each.name ?? "target", change(each.mean, (v) => shown(v, 3)), change(each.deviation, (v) => shown(v, 3)), change(each.mae, (v) => shown(v, 3))])),
    tableOf("Members", ["member", "weight", "restarts"], found.members.filter((each) => Math.abs(each.weight[1] - each.weight[0]) > 0.01).map((each) => [each.member, change(each.weight, share), change(each.restarts, shown)])),
  ].filter((each) => each));
  return [make("h2", `What changed from version ${earlier} to ${later}`), ...sentences.map((each) => make("p", each, { class: "note" })), parts];
}

function happened(events) {
  return [...Map.groupBy(events, (each) => each.event)].map(([name, of]) => `${name} ${of.length > 1 ? `${of.length} times since` : "in"} version ${of[0].version}`).join(", ");
}

function rejected({ batches }) {
  const shares = batches.map((each) => each.counts.received ? each.counts.rejected / each.counts.received : 0);
  return shares[0] || shares[1] ? `Rejected records ${change(shares, share)}.` : null;
}

function behind({ batches }) {
  const lags = batches.map((each) => each.lag), delays = batches.map((each) => each.delay);
  const parts = [lags.some((each) => each) ? `at most ${change(lags, shown)} records waited` : null, delays.some((each) => each) ? `the oldest record was learned after ${change(delays, (each) => each == null ? "–" : ago(each))}` : null];
  return parts.some((each) => each) ? `${parts.filter((each) => each).join("; ")}.` : null;
}

function tableOf(title, titles, rows) {
  if (!rows.length) return null;
  const part = make("div"), scroll = make("div", null, { class: "scroll" }), table = make("table", null, { "aria-label": title });
  scroll.append(table);
  part.append(make("h3", title), scroll);
  fillTable(table, titles, rows, [0]);
  return part;
}

// ---- Tables

function fill(id, titles, rows, texts = [0]) {
  const article = element(id);
  article.hidden = !rows.length && id !== "events";
  fillTable(article.querySelector("table"), titles, rows, texts);
}

// Each cell has its column's title, for a phone shows some tables without columns; roles keep them tables for a screen reader.
function fillTable(table, titles, rows, texts) {
  const head = make("tr", null, { role: "row" });
  head.append(...titles.map((title, i) => make("th", title, { scope: "col", role: "columnheader", ...(texts.includes(i) ? { class: "text" } : {}) })));
  const body = rows.map((cells) => {
    const row = make("tr", null, { role: "row" });
    row.append(...cells.map((cell, i) => {
      const made = i === 0 ? make("th", null, { scope: "row", role: "rowheader" }) : make("td", null, { role: "cell" });
      made.append(cell ?? "");
      made.dataset.title = titles[i];
      if (texts.includes(i)) made.classList.add("text");
      return made;
    }));
    return row;
  });
  const top = make("thead"), rest = make("tbody");
  top.append(head);
  rest.append(...body);
  table.replaceChildren(top, rest);
}

function bar(value) {
  const made = make("span", null, { class: "bar-of" });
  made.append(make("meter", null, { min: 0, max: 1, value: value ?? 0, "aria-hidden": "true" }), ` ${share(value)}`);
  return made;
}

function drawTables() {
  const window_ = moment?.metrics?.prequential?.window;
  const names = moment?.classes?.map(String) ?? [];
  const per = window_?.per_class;
  fill("classes", ["class", "precision", "recall", "F1"], per ? names.map((name, i) => [name, bar(per.precision[i]), bar(per.recall[i]), bar(per.f1[i])]) : []);
  drawConfusion(window_?.confusion, names);
  fill("members", ["member", "weight", "exponent", "restarts"], (moment?.members ?? []).map((each) => [each.member, bar(each.weight), shown(each.exponent), shown(each.restarts)]));
  const until = moment?.number ?? Infinity;
  const marks = (series.marks ?? []).filter((mark) => mark.version <= until).slice(-100).reverse();
  drawEvents(marks);
  fill("rejected", ["reason", "in this version"], Object.entries(moment?.rejected_by_reason ?? {}).map(([reason, count]) => [reason, shown(count, 12)]));
}

// A click on an event, or Enter, shows its version. Rows stay while they are the same, so that the keyboard keeps its place.
function drawEvents(marks) {
  const article = element("events"), key = JSON.stringify([state.model, marks]);
  if (article.dataset.key === key) return;
  article.dataset.key = key;
  fill("events", ["event", "version", "time", ""], marks.map((mark) => [mark.event.event, shown(mark.version, 12), instant(mark.time), details(mark.event)]), [0, 3]);
  article.querySelector(".note").hidden = marks.length > 0;
  article.querySelectorAll("tbody tr").forEach((row, i) => {
    const go = () => show({ version: marks[i].version });
    row.tabIndex = 0;
    row.addEventListener("click", go);
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") go(); });
  });
}

// ---- Importance: computed on the server when its card is open, for it takes seconds

let computing = false, computed = "", computedAt = 0;

async function drawImportance() {
  const article = element("importance"), wanted = `${state.model} ${moment?.number}`;
  article.hidden = Boolean(inside) || !moment || Boolean(moment.error);
  if (computing || article.hidden || !article.querySelector("details").open || wanted === computed) return;
  if (state.version == null && computed.startsWith(`${state.model} `) && Date.now() - computedAt < IMPORTANCE_WAIT) return;
  const note = article.querySelector(".note");
  computing = true;
  if (!computed) note.textContent = "Computing.";
  try {
    const found = await fetched(`models/${state.model}/importance/${moment.number}`, { from: series.numbers[0] });
    note.textContent = `By how much the ${moment.classes ? "log loss" : "absolute error, in deviations,"} grows if a field's values are exchanged between rows: ${shown(found.rows)} rows of the replay buffer of version ${found.versions.at(-1)}, ${Math.min(found.fields.length, found.of)} of ${found.of} fields; the line: ${found.versions.length} versions since ${found.versions[0]}.`;
    const most = Math.max(...found.fields.map((each) => each.loss), 1e-12);
    fillTable(article.querySelector("table"), ["field", "importance", "over time"], found.fields.map((each) => {
      const made = make("span", `${shown(each.loss, 3)} ± ${shown(each.error, 1)} `);
      made.prepend(make("meter", null, { min: 0, max: most, value: Math.max(each.loss, 0), "aria-hidden": "true" }), " ");
      return [each.field, made, sparkline(each.before, `${each.field}: ${each.before.map((value) => shown(value, 2)).join(", ")}`)];
    }), [0]);
  } catch (error) {
    note.textContent = `${sentence(error.message)}.`;
    article.querySelector("table").replaceChildren();
  }
  [computing, computed, computedAt] = [false, wanted, Date.now()];
}

function sparkline(values, name) {
  const made = drawing("svg", { viewBox: "0 0 80 18", class: "spark", role: "img", "aria-label": name });
  const known = values.map((value, i) => [i, value]).filter(([, value]) => value != null);
  const low = Math.min(0, ...known.map(([, value]) => value)), high = Math.max(...known.map(([, value]) => value), low + 1e-12);
  const points = known.map(([i, value]) => `${(1 + (78 * i) / Math.max(values.length - 1, 1)).toFixed(1)},${(16 - (14 * (value - low)) / (high - low)).toFixed(1)}`);
  made.append(drawing("polyline", { points: points.join(" ") }));
  return made;
}

// ---- Samples: the newest rows with what was predicted for them, as served

function drawSamples() {
  const rows = samples?.rows ?? [], classes = samples?.classes;
  const name = (value) => value == null ? "–" : Array.isArray(value) ? value.map(name).join(", ") : classes && !samples.multilabel ? String(classes[value] ?? value) : shown(value, 5);
  const columns = (samples?.columns ?? []).slice(0, 12);
  fill("predictions", ["version", "label", "predicted", ...(classes && !samples.multilabel ? ["probability"] : []), ...columns], rows.slice(0, 40).map((row) => [
    shown(row.version, 12), name(row.label), outcome(row, name), ...(row.probability != null ? [share(row.probability)] : []),
    ...columns.map((_, i) => shown(row.inputs?.[i], 4)),
  ]));
  fill("examples", ["version", "reason", "field", "found", "record", "topic, partition, offset"], (samples?.rejected ?? []).map((each) => [
    shown(each.version, 12), each.reason, each.field, each.found, make("code", each.value ?? "null"), `${each.topic}, ${each.partition}, ${each.offset}`,
  ]), [0, 1, 2, 3, 4, 5]);
  drawPictures(samples?.side ? rows.filter((row) => row.inputs) : [], name);
  drawResiduals(classes || samples?.targets ? [] : rows.filter((row) => row.label != null && row.predicted != null));
}

const isWrong = (row) => JSON.stringify(row.label) !== JSON.stringify(row.predicted);

function outcome(row, name) {
  const made = make("span", name(row.predicted));
  if (samples.classes && !samples.multilabel && isWrong(row)) {
    made.className = "wrong";
    made.append(" ✗");
  }
  return made;
}

function drawPictures(rows, name) {
  element("pictures").hidden = !rows.length;
  const ordered = [...rows.filter(isWrong), ...rows.filter((row) => !isWrong(row))].slice(0, 48);
  element("pictures").querySelector(".pictures").replaceChildren(...ordered.map((row) => {
    const wrong = isWrong(row), shownAs = make("figure", null, wrong ? { class: "wrong" } : {});
    const canvas = make("canvas", null, { width: samples.side, height: samples.side, role: "img", "aria-label": `${name(row.label)}, predicted ${name(row.predicted)}` });
    const ink = canvas.getContext("2d"), image = ink.createImageData(samples.side, samples.side), most = Math.max(...row.inputs) || 1;
    row.inputs.forEach((value, i) => image.data.set([255, 255, 255, Math.round((value / most) * 255)], 4 * i));
    ink.putImageData(image, 0, 0);
    shownAs.append(canvas, make("figcaption", wrong ? `${name(row.label)} ✗ ${name(row.predicted)}` : name(row.label)));
    return shownAs;
  }));
}

const SVG = "http://www.w3.org/2000/svg";

function drawing(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function drawResiduals(rows) {
  element("residuals").hidden = !rows.length;
  if (!rows.length) return;
  const both = rows.flatMap((row) => [row.label, row.predicted]), low = Math.min(...both), high = Math.max(...both);
  const residuals = rows.map((row) => row.label - row.predicted), most = Math.max(...residuals.map(Math.abs));
  const mean = residuals.reduce((a, b) => a + b, 0) / rows.length;
  element("residuals").querySelector(".note").textContent = `Of the ${rows.length} newest rows, as served: residuals (true − predicted) ${shown(mean, 3)} on average, at most ${shown(most, 3)}.`;
  element("residuals").querySelector(".plots").replaceChildren(
    scatter(rows.map((row) => [row.predicted, row.label]), [low, high], [low, high], [[low, low], [high, high]], "predicted", "true"),
    scatter(rows.map((row, i) => [row.predicted, residuals[i]]), [low, high], [-most, most], [[low, 0], [high, 0]], "predicted", "residual"),
  );
}

function scatter(points, [left, right], [bottom, top], line, across, up) {
  const size = 220, pad = 26, at = (value, from, to) => pad + ((value - from) / (to - from || 1)) * (size - 2 * pad);
  const x = (value) => at(value, left, right).toFixed(1), y = (value) => (size - at(value, bottom, top)).toFixed(1);
  const made = drawing("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `${up} over ${across}, ${points.length} rows` });
  const [[x1, y1], [x2, y2]] = line;
  made.append(drawing("line", { x1: x(x1), y1: y(y1), x2: x(x2), y2: y(y2), class: "ideal" }));
  made.append(...points.map(([a, b]) => drawing("circle", { cx: x(a), cy: y(b), r: 2.4 })));
  const text = (content, attributes) => { const written = drawing("text", attributes); written.textContent = content; return written; };
  made.append(
    text(`${across} ${shown(left, 3)} to ${shown(right, 3)}`, { x: size / 2, y: size - 6, "text-anchor": "middle" }),
    text(`${up} ${shown(bottom, 3)} to ${shown(top, 3)}`, { x: 10, y: size / 2, "text-anchor": "middle", transform: `rotate(-90 10 ${size / 2})` }),
  );
  return made;
}

function details(event) {
  return Object.entries(event).filter(([name]) => name !== "event" && name !== "version").map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
}

const phone = matchMedia("(max-width: 600px)"), NARROW = 12; // classes whose matrix a phone has room for

function drawConfusion(matrix, names) {
  const few = matrix && names.length === matrix.length && names.length <= 32, listed = few && phone.matches && names.length > NARROW;
  element("confusion").querySelector(".note").textContent = listed ? "What is predicted instead most often, of the label's rows." : "Rows: the label. Columns: the prediction. Shares of the label's rows.";
  element("confusion").classList.toggle("matrix", Boolean(few && !listed));
  element("confusion").classList.toggle("upright", names.some((name) => name.length > 2));
  if (listed) {
    fill("confusion", ["label", "predicted", "share"], mistakes(matrix, names), [0, 1]);
    return;
  }
  fill("confusion", few ? ["", ...names] : [], few ? matrix.map((row, i) => {
    const total = row.reduce((a, b) => a + b, 0);
    return [names[i], ...row.map((count) => {
      const part = total ? count / total : 0;
      const cell = make("span", total ? Math.round(part * 100) : "–", { title: `${shown(count, 7)} rows` });
      cell.dataset.share = part;
      return cell;
    })];
  }) : []);
  for (const cell of document.querySelectorAll("#confusion [data-share]"))
    cell.parentElement.style.background = `rgb(${color("--heat")} / ${Math.round(Number(cell.dataset.share) * 60)}%)`;
}

function mistakes(matrix, names) {
  const shares = matrix.flatMap((row, i) => row.map((count, j) => ({ i, j, part: i === j ? 0 : count / row.reduce((a, b) => a + b, 0) || 0 })));
  return shares.filter(({ part }) => part > 0).sort((a, b) => b.part - a.part).slice(0, 2 * NARROW).map(({ i, j, part }) => [names[i], names[j], bar(part)]);
}

// ---- Controls

function connectControls() {
  element("scrubber").addEventListener("input", (event) => show({ version: series.numbers[Number(event.target.value)] }));
  element("live").addEventListener("click", () => show({ version: null, why: null }));
  element("why").addEventListener("click", () => show(state.why == null ? { version: moment?.number ?? null, why: 1 } : { why: null }));
  element("why").hidden = Boolean(inside);
  element("importance").querySelector("details").addEventListener("toggle", drawImportance);
  element("compare").addEventListener("click", () => show({ compare: state.compare == null ? 1 : null, version: null, why: null, from: null, to: null, span: null }));
  for (const button of document.querySelectorAll("[data-range]"))
    button.addEventListener("click", () => show({ from: null, to: null, span: button.dataset.range ? Number(button.dataset.range) : null }));
  element("models").addEventListener("change", (event) => show({ model: Number(event.target.value), version: null, from: null, to: null }));
  addEventListener("hashchange", () => { readLink(); refresh(); });
  new ResizeObserver(() => { for (const chart of charts) chart.plot.setSize({ width: chart.figure.clientWidth - 28, height: height(chart) }); }).observe(element("charts"));
  phone.addEventListener("change", refresh);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { element("charts").dataset.key = ""; refresh(); });
}

async function start() {
  readLink();
  connectControls();
  try {
    models = await fetched("models");
  } catch (error) {
    offline(error.message);
    return;
  }
  element("title").textContent = models.length > 1 ? "streaming_nn" : models[0].name;
  element("choose").hidden = models.length < 2;
  element("models").append(...models.map((each, i) => make("option", each.name, { value: i })));
  element("models").value = state.model;
  if (inside) {
    element("state").textContent = "report";
    element("live").textContent = "Newest";
  } else listen();
  refresh();
}

start();
