/**
 * What the live figures share: planes to draw on, colour ramps, movable points, controls, a line of
 * text that says what is seen. Looks are in live.css and, on the website, theme.css.
 */

// ---------------------------------------------------------------- elements and controls

/** A new HTML element with properties (or, with a dash in their name, attributes) and children. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

let identifiers = 0;
const identifier = () => `gnuq-live-${++identifiers}`;

/**
 * A number for people: three significant digits, a true minus sign.
 * @param {number} value
 */
export function format(value) {
  if (!Number.isFinite(value)) return "undefined";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
    const [digits, power] = value.toExponential(1).split("e");
    return `${digits.replace("-", "−")} × 10${superscript(Number(power))}`;
  }
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

const superscript = (power) =>
  String(power).replace(/./g, (sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign]));

/**
 * A slider over a list of values.
 * @param {{label: string, values: any[], value: any, say?: (value: any) => string,
 *   onInput: (value: any) => void}} options  `say` gives the text beside it
 * @returns {HTMLLabelElement & {show: (value: any) => void}}
 */
export function slider({ label, values, value, say = String, onInput }) {
  const output = element("output", { "aria-live": "off" }); // aria-valuetext says it already
  const input = element("input", { type: "range", min: 0, max: values.length - 1, step: 1 });
  input.setAttribute("aria-label", label);
  const show = (chosen) => {
    input.value = values.indexOf(chosen);
    input.setAttribute("aria-valuetext", say(chosen));
    output.textContent = `${label}: ${say(chosen)}`;
  };
  input.addEventListener("input", () => {
    show(values[input.value]);
    onInput(values[input.value]);
  });
  show(value);
  return Object.assign(element("label", { className: "gnuq-slider" }, output, input), { show });
}

/**
 * A row of buttons of which one is pressed.
 * @param {{label: string, options: {value: any, text: string}[], value: any,
 *   onChoose: (value: any) => void}} options
 * @returns {HTMLDivElement & {show: (value: any) => void}}  `show` presses without `onChoose`
 */
export function choice({ label, options, value, onChoose }) {
  const nodes = options.map((option) =>
    button({ text: option.text, onClick: () => onChoose(show(option.value)) }),
  );
  const show = (chosen) => {
    nodes.forEach((node, at) =>
      node.setAttribute("aria-pressed", String(options[at].value === chosen)),
    );
    return chosen;
  };
  show(value);
  const row = element("div", { className: "gnuq-buttons", role: "group", "aria-label": label });
  row.append(...nodes);
  return Object.assign(row, { show });
}

/**
 * One button.
 * @param {{text: string, onClick: () => void}} options
 */
export function button({ text, onClick }) {
  const node = element("button", { type: "button" }, text);
  node.addEventListener("click", onClick);
  return node;
}

/** Controls in a row, each under its name where it has one. */
export function controls(...nodes) {
  return element("div", { className: "gnuq-controls" }, ...nodes);
}

/** A control with its name written before it. */
export function named(text, node) {
  return element("div", { className: "gnuq-named" }, element("span", {}, text), node);
}

// ---------------------------------------------------------------- the stage

/**
 * The frame of one figure inside `host`: what it adds it takes away again in `destroy`.
 *
 * `signal` aborts then: give it to every listener. `schedule(draw)` runs `draw` once, in the next
 * animation frame; `draw` may schedule itself. `onTheme(callback)` runs it when the page's colours
 * change. `describe(text)` says what is seen now, politely, once it has not changed for a while.
 *
 * @param {HTMLElement} host
 * @param {{label: string}} options  the figure's name for screen readers
 */
export function stage(host, { label }) {
  const before = [...host.childNodes];
  const closing = new AbortController();
  const line = element("p", { className: "gnuq-state", role: "status", "aria-live": "polite" });
  const body = element("div", { className: "gnuq-body" });
  const node = element("div", { className: "gnuq-stage", role: "group", "aria-label": label });
  const finding = host.querySelector(":scope > .gnuq-alt")?.textContent ?? "";
  const alt = element("p", { className: "gnuq-hidden", id: identifier() }, finding);
  if (finding) node.setAttribute("aria-describedby", alt.id);
  node.append(...(finding ? [alt] : []), body, line);
  host.replaceChildren(node);
  const frames = scheduler(closing.signal);
  return {
    node,
    body,
    signal: closing.signal,
    reducedMotion: () => matchMedia("(prefers-reduced-motion: reduce)").matches,
    schedule: frames,
    onTheme: (callback) => watchTheme(callback, closing.signal),
    describe: debounced((text) => (line.textContent = text), 400, closing.signal),
    destroy() {
      closing.abort();
      host.replaceChildren(...before);
    },
  };
}

function scheduler(signal) {
  let waiting;
  const schedule = (draw) => {
    if (signal.aborted) return;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(draw);
  };
  signal.addEventListener("abort", () => cancelAnimationFrame(waiting));
  return schedule;
}

/** Call `act` with the latest arguments once there were none for `wait` milliseconds. */
export function debounced(act, wait, signal) {
  let timer;
  signal.addEventListener("abort", () => clearTimeout(timer));
  return (...values) => {
    clearTimeout(timer);
    if (!signal.aborted) timer = setTimeout(() => act(...values), wait);
  };
}

/** The website names its theme in html[data-theme], JupyterLab in body[data-jp-theme-light]. */
function watchTheme(callback, signal) {
  const observer = new MutationObserver(callback);
  const attributeFilter = ["data-theme", "theme", "class", "data-jp-theme-light"];
  observer.observe(document.documentElement, { attributeFilter });
  observer.observe(document.body, { attributeFilter });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback, { signal });
  signal.addEventListener("abort", () => observer.disconnect());
}

/**
 * The anywidget of a figure: `export default widget(mount)`. `mount` gets as its third argument
 * a function that reports the figure's state to the kernel; on the website it does nothing.
 * @param {(host: HTMLElement, options: object, report: (state: object) => void)
 *   => {destroy: () => void}} mount
 */
export function widget(mount) {
  return {
    render({ model, el }) {
      const alt = element("p", { className: "gnuq-alt" }, model.get("alt"));
      const host = element("div", { className: "gnuq-live-host" }, alt);
      const caption = element("figcaption", {}, model.get("caption"));
      el.append(element("figure", { className: "gnuq-figure gnuq-live" }, host, caption));
      const closing = new AbortController();
      const send = (state) => {
        model.set("state", state);
        model.save_changes();
      };
      const report = debounced(send, 200, closing.signal);
      const figure = mount(host, model.get("options"), report);
      return () => {
        closing.abort();
        figure.destroy();
      };
    },
  };
}

// ---------------------------------------------------------------- colours

const TOKENS = ["epistemic", "aleatoric", "total", "reference", "good", "ink", "paper", "muted"];
TOKENS.push("raised", "grid", "axis");

/**
 * The theme's colours where `node` stands, by token, each as [red, green, blue] of 0 … 255, and
 * the font family of labels as `sans`. `css(rgb, alpha)` turns one into a CSS colour.
 * @param {Element} node
 * @returns {Record<string, number[]> & {sans: string}}
 */
export function palette(node) {
  const style = getComputedStyle(node);
  const value = (name) => style.getPropertyValue(`--gnuq-${name}`).trim();
  const colours = TOKENS.map((name) => [name, parseColour(value(name))]);
  return { ...Object.fromEntries(colours), sans: value("sans") || "sans-serif" };
}

let ink; // a canvas context that knows every notation of colours

function parseColour(text) {
  ink ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  ink.fillStyle = text;
  ink.fillRect(0, 0, 1, 1);
  return [...ink.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

/** @param {number[]} rgb  0 … 255 @param {number} [alpha] */
export const css = ([red, green, blue], alpha = 1) => `rgb(${red} ${green} ${blue} / ${alpha})`;

/**
 * 256 colours from one to another, evenly spaced to the eye (straight in Oklab).
 * @param {number[]} from  [red, green, blue], 0 … 255
 * @param {number[]} to
 * @returns {Uint8ClampedArray} 256 × RGBA
 */
export function ramp(from, to) {
  const [start, end] = [toOklab(from), toOklab(to)];
  const table = new Uint8ClampedArray(256 * 4);
  for (let step = 0; step < 256; step++) {
    const mixed = start.map((value, axis) => value + ((end[axis] - value) * step) / 255);
    table.set([...fromOklab(mixed), 255], 4 * step);
  }
  return table;
}

const product = (matrix, vector) =>
  matrix.map((row) => row.reduce((sum, value, at) => sum + value * vector[at], 0));

// Björn Ottosson's Oklab, from linear sRGB to cone responses, from their cube roots to L, a, b.
const TO_CONES = [
  [0.4122214708, 0.5363325363, 0.0514459929],
  [0.2119034982, 0.6806995451, 0.1073969566],
  [0.0883024619, 0.2817188376, 0.6299787005],
];
const TO_LAB = [
  [0.2104542553, 0.793617785, -0.0040720468],
  [1.9779984951, -2.428592205, 0.4505937099],
  [0.0259040371, 0.7827717662, -0.808675766],
];
const FROM_LAB = [
  [1, 0.3963377774, 0.2158037573],
  [1, -0.1055613458, -0.0638541728],
  [1, -0.0894841775, -1.291485548],
];
const FROM_CONES = [
  [4.0767416621, -3.3077115913, 0.2309699292],
  [-1.2684380046, 2.6097574011, -0.3413193965],
  [-0.0041960863, -0.7034186147, 1.707614701],
];

function toOklab(rgb) {
  const linear = rgb.map((byte) => {
    const value = byte / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return product(TO_LAB, product(TO_CONES, linear).map(Math.cbrt));
}

function fromOklab(lab) {
  const cones = product(FROM_LAB, lab).map((value) => value ** 3);
  return product(FROM_CONES, cones).map((value) => {
    const shown = value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055;
    return 255 * shown;
  });
}

// ---------------------------------------------------------------- planes

/**
 * A titled canvas that shows a rectangle of the data's plane, y upwards.
 *
 * `draw(context, plane)` paints it, in CSS pixels, on a cleared canvas; it runs when the size or
 * the theme changes and when `plane.redraw()` is called. `surface` is the element over the canvas that
 * receives pointers and carries movable points.
 *
 * @param {ReturnType<typeof stage>} owner
 * @param {{title: string, x: [number, number], y: [number, number], aspect?: number,
 *   hue?: string, draw: (context: CanvasRenderingContext2D, plane: object) => void}} options
 *   `aspect` is width over height; `hue` names the colour token of the title's mark
 */
export function plane(owner, { title, x, y, aspect = 1, hue, draw }) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  const surface = element("div", { className: "gnuq-surface" }, canvas);
  surface.style.aspectRatio = String(aspect);
  const heading = element("p", { className: "gnuq-plane-title" }, title);
  if (hue) heading.style.setProperty("--gnuq-hue", `var(--gnuq-${hue})`);
  const scale = element("p", { className: "gnuq-scale", hidden: true });
  const node = element("div", { className: "gnuq-plane" }, heading, surface, scale);
  const context = canvas.getContext("2d");
  const self = { node, surface, canvas, context, heading, scale, x, y, width: 0, height: 0 };
  self.toPixel = (at, up) => [
    ((at - self.x[0]) / (self.x[1] - self.x[0])) * self.width,
    ((self.y[1] - up) / (self.y[1] - self.y[0])) * self.height,
  ];
  self.toData = (left, top) => [
    self.x[0] + (left / self.width) * (self.x[1] - self.x[0]),
    self.y[1] - (top / self.height) * (self.y[1] - self.y[0]),
  ];
  self.redraw = () => {
    if (!self.width) return;
    context.setTransform(canvas.width / self.width, 0, 0, canvas.height / self.height, 0, 0);
    context.clearRect(0, 0, self.width, self.height);
    draw(context, self);
  };
  watchSize(self, owner.signal);
  owner.onTheme(() => self.redraw());
  return self;
}

/** Keep the canvas at the resolution of the screen, and redraw when its size changes. */
function watchSize(self, signal) {
  const fit = () => {
    const { clientWidth: width, clientHeight: height } = self.surface;
    const ratio = window.devicePixelRatio || 1;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    const same = self.canvas.width === across && self.canvas.height === down;
    if (!width || !height || (same && self.width === width)) return;
    Object.assign(self, { width, height });
    Object.assign(self.canvas, { width: across, height: down });
    self.redraw();
  };
  const observer = new ResizeObserver(fit);
  observer.observe(self.surface);
  signal.addEventListener("abort", () => observer.disconnect());
}

/**
 * The centres of the cells of a grid, x running fastest, y upwards.
 * @param {{x: [number, number], y: [number, number]}} domain
 * @param {number} columns
 * @param {number} [rows]
 * @returns {Float64Array} (rows · columns) × 2
 */
export function cellCentres({ x, y }, columns, rows = columns) {
  const out = new Float64Array(2 * columns * rows);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      out[at++] = x[0] + ((column + 0.5) / columns) * (x[1] - x[0]);
      out[at++] = y[0] + ((row + 0.5) / rows) * (y[1] - y[0]);
    }
  }
  return out;
}

/**
 * A painter of maps on a fixed grid, as `cellCentres` orders it; it keeps its image between calls.
 * @param {number} columns
 * @param {number} [rows]
 * @returns {(plane: object, values: ArrayLike<number>, table: Uint8ClampedArray, top: number,
 *   smooth?: boolean) => void}  0 gets the first colour of the table, `top` and above the last;
 *   between them the place in the table goes with the square root of the value, so that for a
 *   variance it is the standard deviation that is even to the eye
 */
export function mapPainter(columns, rows = columns) {
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext("2d");
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  return (onto, values, table, top, smooth = true) => {
    const colours = new Uint32Array(table.buffer);
    const factor = top > 0 ? 255 ** 2 / top : 0;
    for (let row = 0; row < rows; row++) {
      const to = (rows - 1 - row) * columns;
      for (let column = 0; column < columns; column++) {
        const step = Math.sqrt(values[row * columns + column] * factor);
        pixels[to + column] = colours[step > 0 ? Math.min(255, (step + 0.5) | 0) : 0];
      }
    }
    context.putImageData(image, 0, 0);
    onto.context.imageSmoothingEnabled = smooth;
    onto.context.imageSmoothingQuality = "high";
    onto.context.drawImage(canvas, 0, 0, onto.width, onto.height);
  };
}

/**
 * The map's legend under a plane: the colours of `mapPainter` from 0 to `top`.
 * @param {ReturnType<typeof plane>} onto
 * @param {Uint8ClampedArray} table
 * @param {number} top  what the last colour stands for; the middle one stands for a quarter
 */
export function showScale(onto, table, top) {
  const text = ["0", format(top / 4), format(top)];
  const stops = [0, 64, 128, 192, 255].map((at) => css(table.subarray(4 * at, 4 * at + 3)));
  const background = `linear-gradient(to right, ${stops.join(", ")})`;
  const shown = background + text;
  if (onto.shownScale === shown) return;
  onto.shownScale = shown;
  onto.scale.hidden = false;
  const bar = element("span", { className: "gnuq-scale-bar", "aria-hidden": "true" });
  bar.style.background = background;
  onto.scale.replaceChildren(bar, ...text.map((label) => element("span", {}, label)));
}

/**
 * Trace where a map crosses a level (marching squares; a saddle is resolved by its mean).
 * @param {ReturnType<typeof plane>} onto
 * @param {ArrayLike<number>} values  rows × columns, as `cellCentres` orders them
 * @param {{level: number, columns: number, rows?: number, colour: string, width?: number,
 *   dash?: number[]}} options
 */
export function contour(onto, values, { level, columns, rows = columns, colour, width, dash }) {
  const { context } = onto;
  const [across, down] = [onto.width / columns, onto.height / rows];
  const above = (at) => values[at] > level;
  context.beginPath();
  for (let row = 0; row + 1 < rows; row++) {
    for (let column = 0; column + 1 < columns; column++) {
      const at = row * columns + column;
      const count = above(at) + above(at + 1) + above(at + columns) + above(at + columns + 1);
      if (count % 4 === 0) continue;
      const corners = [at, at + 1, at + columns + 1, at + columns].map((k) => values[k] - level);
      for (const [from, to] of crossings(corners)) {
        context.moveTo((column + 0.5 + from[0]) * across, (rows - row - 0.5 - from[1]) * down);
        context.lineTo((column + 0.5 + to[0]) * across, (rows - row - 0.5 - to[1]) * down);
      }
    }
  }
  Object.assign(context, { strokeStyle: colour, lineWidth: width ?? 1.5, lineCap: "round" });
  context.setLineDash(dash ?? []);
  context.stroke();
  context.setLineDash([]);
}

/** Segments of the zero line inside the unit square; corners counter-clockwise from (0, 0). */
function crossings([a, b, c, d]) {
  const points = [];
  if (a > 0 !== b > 0) points.push([a / (a - b), 0]);
  if (b > 0 !== c > 0) points.push([1, b / (b - c)]);
  if (c > 0 !== d > 0) points.push([d / (d - c), 1]);
  if (d > 0 !== a > 0) points.push([0, a / (a - d)]);
  if (points.length < 4) return points.length ? [points] : [];
  const [south, east, north, west] = points;
  const joined = a + b + c + d > 0 === a > 0; // do the corners a and c hang together?
  return joined ? [[south, east], [north, west]] : [[south, west], [north, east]];
}

/**
 * Painting with the pointer on a plane: `act` gets "start", "move", "end" with the place in data
 * units, held inside the plane. The page does not scroll by touch that starts there.
 * @param {ReturnType<typeof plane>} onto
 * @param {(phase: "start" | "move" | "end", x: number, y: number) => void} act
 * @param {AbortSignal} signal
 */
export function onPointer(onto, act, signal) {
  const { surface } = onto;
  surface.style.touchAction = "none";
  let held = null;
  const tell = (phase, event) => act(phase, ...place(onto, event));
  const listen = (type, handler) => surface.addEventListener(type, handler, { signal });
  listen("pointerdown", (event) => {
    if (held !== null || event.button !== 0) return;
    held = event.pointerId;
    surface.setPointerCapture(held);
    tell("start", event);
  });
  listen("pointermove", (event) => event.pointerId === held && tell("move", event));
  for (const type of ["pointerup", "pointercancel"]) {
    listen(type, (event) => {
      if (event.pointerId !== held) return;
      held = null;
      tell("end", event);
    });
  }
}

/** Where a pointer event is, in data units, held inside the plane. */
function place(onto, { clientX, clientY }) {
  const box = onto.surface.getBoundingClientRect();
  const inside = (value, size) => Math.max(0, Math.min(size, value));
  return onto.toData(
    inside(((clientX - box.left) / box.width) * onto.width, onto.width),
    inside(((clientY - box.top) / box.height) * onto.height, onto.height),
  );
}

// ---------------------------------------------------------------- movable points

const SHAPES = ["circle", "square", "triangle"];
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const KEYS = "Arrow keys move the point, with Shift finely; Page Up and Page Down go to another.";

/**
 * Points to move by mouse, touch and keyboard, shown on every plane of `planes`.
 *
 * The first plane's are buttons, one of them in the tab order; on the others they can be dragged
 * too. Keys: arrows move by `step`, with Shift by a fifth; Page Up and Page Down go to another
 * point; Delete removes; 1, 2, 3 set the class. `onChange` runs after each change of `points`,
 * which is changed in place.
 *
 * @param {ReturnType<typeof stage>} owner
 * @param {ReturnType<typeof plane>[]} planes
 * @param {{points: {x: number, y: number, label: number}[], step: number,
 *   label?: string, name?: (point: object, index: number) => string, classes?: number,
 *   fewest?: number, constrain?: (x: number, y: number) => [number, number],
 *   onChange: (kind: "move" | "label" | "remove" | "add", index: number) => void,
 *   onSelect?: (index: number) => void}} options
 *   `classes` 0 (the default) for points that have none, `fewest` below which none can be removed
 *   (all of them if omitted)
 */
export function movable(owner, planes, options) {
  const settings = { classes: 0, fewest: Infinity, label: "Points", ...options };
  settings.name ??= ({ x, y, label }) =>
    `${settings.classes ? `Class ${label + 1}, at` : "At"} ${format(x)}, ${format(y)}`;
  settings.constrain ??= (x, y) => [x, y];
  const hint = element("span", { className: "gnuq-hidden", id: identifier() }, keysOf(settings));
  const layers = planes.map(() => element("div", { className: "gnuq-points" }));
  layers[0].setAttribute("role", "application");
  layers[0].setAttribute("aria-label", settings.label);
  layers[0].setAttribute("aria-describedby", hint.id);
  layers.slice(1).forEach((layer) => layer.setAttribute("aria-hidden", "true"));
  const self = { owner, planes, layers, hint, ...settings, marks: [], selected: 0 };
  planes.forEach((plane, at) => {
    plane.surface.append(layers[at]);
    listenTo(self, plane, layers[at]);
  });
  layers[0].addEventListener("keydown", (event) => onKey(self, event), { signal: owner.signal });
  rebuild(self);
  return {
    layers,
    get selected() {
      return self.selected;
    },
    select: (index) => select(self, index, true),
    setLabel: (label) => setLabel(self, label),
    remove: () => remove(self),
    add: (x, y, label) => add(self, x, y, label),
    replace(points, classes = self.classes) {
      Object.assign(self, { points, classes, selected: 0 });
      hint.textContent = keysOf(self);
      rebuild(self);
    },
    refresh: () => self.points.forEach((_, index) => placeMarks(self, index)),
  };
}

const keysOf = ({ classes, fewest }) =>
  KEYS +
  (Number.isFinite(fewest) ? " Delete removes it." : "") +
  (classes ? ` Keys 1 to ${classes} set its class.` : "");

function rebuild(self) {
  self.marks = self.layers.map((layer, at) => {
    const marks = self.points.map(() =>
      at ? element("span") : element("button", { type: "button", tabIndex: -1 }),
    );
    layer.replaceChildren(...(at ? [] : [self.hint]), ...marks);
    return marks;
  });
  self.points.forEach((_, index) => placeMarks(self, index));
  select(self, Math.min(self.selected, self.points.length - 1), false);
}

function placeMarks(self, index) {
  const point = self.points[index];
  self.planes.forEach(({ x, y }, at) => {
    const mark = self.marks[at][index];
    mark.className = `gnuq-point gnuq-${SHAPES[point.label] ?? SHAPES[0]}`;
    mark.classList.toggle("gnuq-selected", index === self.selected);
    mark.style.left = `${((point.x - x[0]) / (x[1] - x[0])) * 100}%`;
    mark.style.top = `${((y[1] - point.y) / (y[1] - y[0])) * 100}%`;
  });
  self.marks[0][index].setAttribute("aria-label", self.name(point, index));
}

function select(self, index, focus) {
  const before = self.selected;
  self.selected = index;
  for (const at of [before, index]) {
    if (!self.points[at]) continue;
    self.marks[0][at].tabIndex = at === index ? 0 : -1;
    for (const marks of self.marks) marks[at].classList.toggle("gnuq-selected", at === index);
  }
  if (focus) self.marks[0][index]?.focus({ preventScroll: true });
  self.onSelect?.(index);
}

/** Put a point at a place, as near as the plane and `constrain` allow. */
function moveTo(self, index, x, y) {
  const { x: across, y: up } = self.planes[0];
  const held = ([low, high], value) => Math.max(low, Math.min(high, value));
  const [newX, newY] = self.constrain(held(across, x), held(up, y));
  Object.assign(self.points[index], { x: newX, y: newY });
  placeMarks(self, index);
  self.onChange("move", index);
}

function setLabel(self, label) {
  if (!(label >= 0 && label < self.classes) || !self.points[self.selected]) return;
  self.points[self.selected].label = label;
  placeMarks(self, self.selected);
  self.onChange("label", self.selected);
}

function remove(self) {
  if (self.points.length <= self.fewest) return;
  const focused = self.layers[0].contains(document.activeElement);
  const index = self.selected;
  self.points.splice(index, 1);
  rebuild(self);
  if (focused) select(self, self.selected, true);
  self.onChange("remove", index);
}

function add(self, x, y, label) {
  self.points.push({ x, y, label });
  self.selected = self.points.length - 1;
  rebuild(self);
  self.onChange("add", self.selected);
}

function onKey(self, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const point = self.points[self.selected];
  const count = self.points.length;
  const direction = STEPS[event.key];
  const turn = { PageDown: 1, PageUp: -1 }[event.key];
  const label = self.classes && Number.parseInt(event.key, 10) - 1;
  if (!point) return;
  if (direction) {
    const step = event.shiftKey ? self.step / 5 : self.step;
    moveTo(self, self.selected, point.x + step * direction[0], point.y + step * direction[1]);
  } else if (turn) select(self, (self.selected + turn + count) % count, true);
  else if (event.key === "Delete" || event.key === "Backspace") remove(self);
  else if (self.classes && label >= 0 && label < self.classes) setLabel(self, label);
  else return;
  event.preventDefault();
}

/** Drag the point nearest to where the pointer went down; only marks receive pointers. */
function listenTo(self, onto, layer) {
  let held = null; // {pointer, index, offset from the pointer to the point}
  const { signal } = self.owner;
  const listen = (type, handler) => layer.addEventListener(type, handler, { signal });
  listen("pointerdown", (event) => {
    if (held || event.button !== 0 || !event.target.classList.contains("gnuq-point")) return;
    const [x, y] = place(onto, event);
    const index = nearest(self.points, onto, x, y);
    const { x: atX, y: atY } = self.points[index];
    held = { pointer: event.pointerId, index, dx: atX - x, dy: atY - y };
    layer.setPointerCapture(held.pointer);
    select(self, index, layer === self.layers[0]);
    event.preventDefault();
  });
  listen("pointermove", (event) => {
    if (event.pointerId !== held?.pointer) return;
    const [x, y] = place(onto, event);
    moveTo(self, held.index, x + held.dx, y + held.dy);
  });
  for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
    listen(type, (event) => {
      if (event.pointerId === held?.pointer) held = null;
    });
  }
}

/** The point nearest to a place, as it looks on the plane. */
function nearest(points, onto, x, y) {
  const [left, top] = onto.toPixel(x, y);
  const away = (point) => {
    const [atLeft, atTop] = onto.toPixel(point.x, point.y);
    return Math.hypot(atLeft - left, atTop - top);
  };
  return points.reduce((best, point, at) => (away(point) < away(points[best]) ? at : best), 0);
}
