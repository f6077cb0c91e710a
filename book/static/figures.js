/**
 * Draws the figures that gnuq/display.py left on a page as data.
 *
 * plotly.js (4.8 MB, 1.5 MB compressed) is fetched once, from this site, when the first figure comes
 * near the view. Buttons, menus and sliders of a figure become HTML controls: plotly draws its own in
 * SVG, out of the keyboard's reach and with a fixed pale highlight that hides their text in the dark.
 */

const PLOTLY = new URL("plotly.min.js", import.meta.url).href;
const NARROW = 600; // pixels; below it panels that stand side by side are stacked
const GAP = 76; // pixels between stacked panels: room for a title above and tick labels below
const TOUCH = matchMedia("(pointer: coarse)").matches;

/** The colours of gnuq.display.COLOURS, and what each becomes in the dark theme. */
const COLOURS = [
  ["#0068a8", "#5cb4f0"], // epistemic
  ["#c8500a", "#ff9557"], // aleatoric
  ["#6b4fa0", "#bba2f2"], // total
  ["#5f6b76", "#9aa7b4"], // reference
  ["#00795a", "#3fc39a"], // good
  ["#1f2430", "#e4e7ec"], // ink
  ["#ffffff", "#14181f"], // paper
];
const TO_DARK = new Map(COLOURS);
const TO_LIGHT = new Map(COLOURS.map(([light, dark]) => [dark, light]));

const root = document.documentElement;
const isDark = () => root.dataset.theme === "dark";

let plotly; // one promise for the page
function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = PLOTLY;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly.js could not be loaded"));
    document.head.append(script);
  });
  return plotly;
}

// ---------------------------------------------------------------- theme

/** Swap the shared colours inside `value`, in place where it can be; return what replaces it. */
function recolour(value, swap) {
  if (typeof value === "string") return swap.get(value.toLowerCase()) ?? value;
  if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
  for (const key of Object.keys(value)) {
    if (key !== "template" && key !== "bdata") value[key] = recolour(value[key], swap);
  }
  return value;
}

/** The page's theme as a plotly template, read from theme.css. */
function template() {
  const style = getComputedStyle(root);
  const token = (name) => style.getPropertyValue(`--gnuq-${name}`).trim();
  const axis = {
    gridcolor: token("grid"),
    zerolinecolor: token("grid"),
    linecolor: token("axis"),
    tickcolor: token("axis"),
    automargin: true,
    title: { standoff: 8 },
  };
  const colorbar = { outlinewidth: 0, thickness: 12, tickfont: { size: 11 }, ticklen: 3 };
  const scale = { autocolorscale: false, colorbar };
  return {
    layout: {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: token("sans"), size: 13, color: token("ink") },
      title: { font: { size: 16 }, x: 0, xref: "paper", yref: "container", y: 0.98, yanchor: "top", automargin: true },
      colorway: COLOURS.map(([light, dark]) => (isDark() ? dark : light)),
      colorscale: { sequential: "Viridis", sequentialminus: "Viridis" },
      coloraxis: { colorbar },
      xaxis: axis,
      yaxis: axis,
      legend: { bgcolor: "rgba(0,0,0,0)" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: token("axis"), activecolor: token("ink") },
      hoverlabel: {
        bgcolor: token("raised"),
        bordercolor: token("axis"),
        font: { family: token("sans"), color: token("ink") },
      },
      annotationdefaults: { arrowcolor: token("ink") },
      margin: { l: 56, r: 24, t: 48, b: 48 },
    },
    data: { heatmap: [scale], contour: [scale], scatter: [{ marker: { colorbar } }] },
  };
}

// ---------------------------------------------------------------- narrow screens

const near = (a, b) => Math.abs(a - b) < 1e-6;
const middle = ([low, high]) => (low + high) / 2;

/** The panels of a figure, in reading order, or none where stacking them could mislead. */
function panels(layout) {
  const found = [];
  for (const key of Object.keys(layout).filter((name) => /^xaxis\d*$/.test(name))) {
    const x = layout[key];
    const yKey = `yaxis${(x.anchor ?? "y").slice(1)}`;
    const y = layout[yKey];
    if (!x.domain || !y?.domain || x.overlaying || y.overlaying) return [];
    found.push({ keys: [key, yKey], id: key.replace("axis", ""), x: x.domain, y: y.domain });
  }
  const sideBySide = found.some((panel) => !near(panel.x[0], found[0].x[0]));
  found.sort((a, b) => b.y[1] - a.y[1] || a.x[0] - b.x[0]);
  return sideBySide ? found : [];
}

/** Where `stack` puts what lay at a fraction of the old drawing area: outside it, keep the pixels. */
function outside(value, ratio) {
  if (value > 1) return 1 + (value - 1) * ratio;
  return value < 0 ? value * ratio : value;
}

/** Stack panels that stand side by side; return the data and layout of the tall figure. */
function stack({ data, layout }, width, height) {
  const cells = panels(layout);
  if (!cells.length) return { data, layout, height };
  const margin = { t: layout.margin?.t ?? 48, b: layout.margin?.b ?? 48 };
  const before = height - margin.t - margin.b;
  const square = cells.some(({ keys }) => keys.some((key) => layout[key].scaleanchor));
  const wanted = before * (cells[0].y[1] - cells[0].y[0]);
  const tall = square ? width - 110 : Math.min(wanted, width - 60);
  const after = cells.length * tall + (cells.length - 1) * GAP;
  cells.forEach((cell, row) => {
    const top = 1 - (row * (tall + GAP)) / after;
    cell.to = [Math.max(0, top - tall / after), top];
    const [x, y] = cell.keys.map((key) => layout[key]);
    Object.assign(x, { domain: [0, 1], showticklabels: x.visible !== false });
    Object.assign(y, { domain: cell.to, showticklabels: y.visible !== false });
  });
  const place = { cells, ratio: before / after, tall: tall / after };
  moveAnnotations(layout.annotations, place);
  moveColorbars(data, layout, place);
  if (layout.legend) layout.legend.y = outside(layout.legend.y ?? 1, place.ratio);
  return { data, layout, height: after + margin.t + margin.b, place };
}

/** Keep each annotation of the drawing area with the panel that it stood at (its title, mostly). */
function moveAnnotations(annotations, { cells, ratio }) {
  for (const note of annotations ?? []) {
    if ((note.xref ?? "paper") !== "paper" || (note.yref ?? "paper") !== "paper") continue;
    const far = ({ x, y }) => Math.abs(note.x - middle(x)) + Math.abs(note.y - y[1]);
    const cell = cells.reduce((best, next) => (far(next) < far(best) ? next : best));
    note.x = (note.x - cell.x[0]) / (cell.x[1] - cell.x[0]);
    note.y = cell.to[1] + (note.y - cell.y[1]) * ratio;
  }
}

/** Put a trace's colour bar beside its own panel, a shared one beside the first. */
function moveColorbars(data, layout, { cells, tall }) {
  const beside = (cell) => ({ x: 1.02, y: cell.to[1], yanchor: "top", len: tall, lenmode: "fraction" });
  for (const trace of data) {
    const cell = cells.find(({ id }) => id === (trace.xaxis ?? "x"));
    if (!cell || trace.coloraxis) continue;
    if (/^(heatmap|contour)/.test(trace.type)) trace.colorbar ??= {};
    for (const { colorbar } of [trace, trace.marker ?? {}]) {
      if (colorbar && colorbar.orientation !== "h") Object.assign(colorbar, beside(cell));
    }
  }
  for (const key of Object.keys(layout).filter((name) => name.startsWith("coloraxis"))) {
    if (layout[key].colorbar?.orientation === "h") continue;
    layout[key].colorbar = { ...layout[key].colorbar, ...beside(cells[0]) };
  }
}

// ---------------------------------------------------------------- controls

/** Carry out what a button or a slider's step does, in the current theme and arrangement. */
async function carryOut(figure, step) {
  const args = structuredClone(step.args ?? []);
  const layout = step.method === "relayout" ? args[0] : args[1];
  if (figure.place) moveAnnotations(layout?.annotations, figure.place);
  if (isDark()) recolour(args, TO_DARK);
  const act = (await loadPlotly())[step.method ?? "restyle"];
  if (act && step.method !== "skip") await act(figure.plot, ...args);
}

function element(tag, attributes, ...children) {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

/** Labels are HTML in plotly; a control shows their text. */
const plain = (label) => new DOMParser().parseFromString(label ?? "", "text/html").body.textContent;

function buttons(figure, menu, chosen) {
  const steps = menu.buttons.filter((step) => step.visible !== false);
  const group = element("div", { className: "gnuq-buttons" });
  group.setAttribute("role", "group");
  const nodes = steps.map((step, index) => {
    const node = element("button", { type: "button" }, plain(step.label));
    node.onclick = () => {
      press(index);
      chosen(step);
    };
    return node;
  });
  const press = (index) =>
    nodes.forEach((node, at) => node.setAttribute("aria-pressed", String(at === index)));
  press(menu.active ?? 0);
  group.append(...nodes);
  return group;
}

function dropdown(figure, menu, chosen) {
  const steps = menu.buttons.filter((step) => step.visible !== false);
  const options = steps.map((step) => element("option", {}, plain(step.label)));
  const select = element("select", {}, ...options);
  select.selectedIndex = menu.active ?? 0;
  select.setAttribute("aria-label", menu.name ?? "Show");
  select.onchange = () => chosen(steps[select.selectedIndex]);
  return select;
}

function slider(figure, spec, chosen) {
  const steps = spec.steps ?? [];
  const { prefix = "", suffix = "" } = spec.currentvalue ?? {};
  const say = (index) => `${prefix}${plain(steps[index]?.label)}${suffix}`;
  const start = spec.active ?? 0;
  const output = element("output", {}, say(start));
  const input = element("input", { type: "range", min: 0, max: steps.length - 1, value: start });
  input.setAttribute("aria-label", plain(prefix).replace(/[\s:=]+$/, "") || "Value");
  input.setAttribute("aria-valuetext", say(start));
  input.oninput = () => {
    output.textContent = say(input.value);
    input.setAttribute("aria-valuetext", say(input.value));
    chosen(steps[input.value]);
  };
  return element("label", { className: "gnuq-slider" }, output, input);
}

/** Turn the figure's menus and sliders into HTML controls above and below it. */
function addControls(figure) {
  const { updatemenus = [], sliders = [] } = figure.source.layout;
  const shown = (spec) => spec.visible !== false;
  const make = (kind) => (spec) =>
    kind(figure, spec, (step) => {
      figure.steps.set(spec, step);
      carryOut(figure, step).catch((error) => console.error(error));
    });
  const above = updatemenus
    .filter(shown)
    .map((menu) => make(menu.type === "buttons" ? buttons : dropdown)(menu));
  const below = sliders.filter(shown).map((spec) => make(slider)(spec));
  const box = (nodes) => element("div", { className: "gnuq-controls" }, ...nodes);
  if (above.length) figure.plot.before(box(above));
  if (below.length) figure.plot.after(box(below));
}

// ---------------------------------------------------------------- drawing

/** What plotly is to draw at the present width and theme. */
function arranged(figure) {
  const { data, layout, frames } = structuredClone(figure.source);
  for (const key of ["updatemenus", "sliders", "width", "height", "paper_bgcolor", "plot_bgcolor"]) {
    delete layout[key];
  }
  const width = figure.plot.clientWidth;
  figure.narrow = width < NARROW;
  const tall = figure.narrow
    ? stack({ data, layout }, width, figure.height)
    : { data, layout, height: figure.height };
  figure.place = tall.place;
  figure.node.style.setProperty("--gnuq-height", `${Math.round(tall.height)}px`);
  Object.assign(layout, { autosize: true, uirevision: "kept", template: template() });
  if (TOUCH) layout.dragmode = false; // a swipe over a figure scrolls the page
  if (isDark()) recolour([data, layout, frames], TO_DARK);
  return { data, layout, frames: frames ?? [] };
}

async function draw(figure) {
  const Plotly = await loadPlotly();
  addControls(figure);
  figure.plot.replaceChildren();
  await Plotly.newPlot(figure.plot, {
    ...arranged(figure),
    config: {
      displaylogo: false,
      displayModeBar: TOUCH ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { filename: figure.node.id || "figure", scale: 2 },
      typesetMath: false, // plotly would switch the page's MathJax to another output
      responsive: false, // the observer below resizes, and stacks
    },
  });
  describe(figure);
  new ResizeObserver(() => requestAnimationFrame(() => fit(figure))).observe(figure.plot);
}

/** The drawing is the image; plotly's buttons beside it must not be hidden inside one. */
function describe({ plot }) {
  const label = plot.getAttribute("aria-label");
  plot.setAttribute("role", "group");
  plot.querySelectorAll("svg.main-svg").forEach((svg, index) => {
    if (index > 0) return svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
  });
}

function fit(figure) {
  const width = figure.plot.clientWidth;
  if (!width || width === figure.width) return;
  figure.width = width;
  if (figure.narrow !== width < NARROW) redraw(figure);
  else window.Plotly.Plots.resize(figure.plot);
}

/** Draw again from the source, then repeat what the reader had chosen. */
async function redraw(figure) {
  const { data, layout } = arranged(figure);
  await window.Plotly.react(figure.plot, data, layout);
  for (const step of figure.steps.values()) await carryOut(figure, step);
}

/** A figure that cannot be drawn keeps its text, and takes no other with it. */
function fail(figure, error) {
  console.error(error);
  figure.node.classList.add("gnuq-failed");
}

function prepare(node) {
  const source = JSON.parse(node.querySelector(".gnuq-data").textContent);
  source.layout ??= {};
  const height = parseFloat(node.style.getPropertyValue("--gnuq-height"));
  return { node, source, height, plot: node.querySelector(".gnuq-plot"), steps: new Map() };
}

function start() {
  const waiting = new Map();
  const drawn = [];
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
        observer.unobserve(target);
        const figure = waiting.get(target);
        draw(figure).then(() => drawn.push(figure), (error) => fail(figure, error));
      }
    },
    { rootMargin: "400px 0px" },
  );
  for (const node of document.querySelectorAll(".gnuq-figure:not(.gnuq-live)")) {
    try {
      waiting.set(node, prepare(node));
      observer.observe(node);
    } catch (error) {
      fail({ node }, error);
    }
  }
  let theme = isDark();
  new MutationObserver(() => {
    if (theme === isDark()) return;
    theme = isDark();
    for (const figure of drawn) redraw(figure).catch((error) => fail(figure, error));
  }).observe(root, { attributeFilter: ["data-theme"] });
}

/** Paper is white: figures and text are printed in the light theme, whatever is on the screen. */
function printLight() {
  let shown;
  addEventListener("beforeprint", () => {
    shown = root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => (root.dataset.theme = shown));
}

start();
printLight();
