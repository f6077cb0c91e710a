/**
 * Proxy bias (Appendix A): paint which data build the Fisher matrix, and see where the uncertainty
 * goes.
 *
 * The network, its data and the grid are those of the book's Figure 1 and Table 3. The matrix is
 * F = Σ_i s_i s_iᵀ over the chosen points, s_i = (y_i − p_i) ∇f_i at the observed label, f the
 * logit; the maps are ‖g‖² and gᵀ(F + λI)⁻¹g with g = p(1 − p) ∇f. Until the end everything is in
 * terms of the logit, since p(1 − p) cancels in ratios and underflows far from the boundary.
 */
import { spec } from "./network.js";
import { button, cellCentres, choice, contour, controls, css, element, format } from "./stage.js";
import { mapPainter, named, onPointer, palette, plane, ramp, showScale } from "./stage.js";
import { slider, stage, widget } from "./stage.js";

const SIDE = 40; // grid points per side, as in Table 3; even, so that none lies between the halves
const CELLS = SIDE * SIDE;
const MARGIN = 0.12; // of the data's extent, beyond the data on each side

const NAMES = { linear: "Linear", xor: "XOR", rings: "Rings" };
const PRECISIONS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100];
const RADII = [0.2, 0.3, 0.45, 0.65, 0.9];
const START = { matrix: "full", precision: 1, radius: 0.45, mode: "paint" };
const PARTS = {
  top: { text: "Top half", holds: (y) => y > 0 },
  bottom: { text: "Bottom half", holds: (y) => y <= 0 },
  all: { text: "All", holds: () => true },
  none: { text: "None", holds: () => false },
};

// ---------------------------------------------------------------- gradients of the logit

/**
 * Gradients of the logit at n inputs, in factors: a layer's weight gradient is δaᵀ, its bias
 * gradient δ.
 * @typedef {{a: Float64Array, delta: Float64Array, fanIn: number, fanOut: number}} Factor
 *   a: n × fanIn, delta: n × fanOut
 */

/**
 * @param {import("./network.js").Spec} network  with tanh units and one logit
 * @param {Float64Array} theta
 * @param {Float64Array} x  n × inputs
 * @returns {{logits: Float64Array, factors: Factor[]}}  n logits; one factor a layer
 */
function logitGradients(network, theta, x) {
  const count = x.length / network.inputs;
  const last = network.layers.length - 1;
  let a = x;
  const factors = network.layers.map((layer, index) => {
    const factor = { ...layer, a, delta: new Float64Array(count * layer.fanOut) };
    a = affine(layer, theta, a, count);
    if (index < last) for (let at = 0; at < a.length; at++) a[at] = Math.tanh(a[at]);
    return factor;
  });
  factors[last].delta.fill(1);
  for (let index = last; index > 0; index--) pullBack(factors[index], factors[index - 1], theta);
  return { logits: a, factors };
}

/** W a + b of every input, n × fanOut. */
function affine({ fanIn, fanOut, weight, bias }, theta, a, count) {
  const out = new Float64Array(count * fanOut);
  for (let row = 0; row < count; row++) {
    for (let unit = 0; unit < fanOut; unit++) {
      let sum = theta[bias + unit];
      const from = weight + unit * fanIn;
      for (let at = 0; at < fanIn; at++) sum += theta[from + at] * a[row * fanIn + at];
      out[row * fanOut + unit] = sum;
    }
  }
  return out;
}

/** δ of the layer before: (Wᵀδ) ⊙ (1 − a²), a the tanh units between the two. */
function pullBack({ a, delta, fanIn, fanOut, weight }, before, theta) {
  const to = before.delta;
  for (let row = 0; row < delta.length / fanOut; row++) {
    const start = row * fanIn;
    for (let unit = 0; unit < fanOut; unit++) {
      const [slope, from] = [delta[row * fanOut + unit], weight + unit * fanIn];
      for (let at = 0; at < fanIn; at++) to[start + at] += theta[from + at] * slope;
    }
    for (let at = start; at < start + fanIn; at++) to[at] *= 1 - a[at] * a[at];
  }
}

/** Σ_at first[i·size + at] · second[j·size + at]. */
function inner(first, i, second, j, size) {
  const [p, q] = [i * size, j * size];
  let sum = 0;
  for (let at = 0; at < size; at++) sum += first[p + at] * second[q + at];
  return sum;
}

/** ⟨∇f_i, ∇f_j⟩ = Σ_layers (1 + a_i·a_j)(δ_i·δ_j) of one node i with every node j. */
function kernelOf(factors, count, i) {
  const out = new Float64Array(count);
  for (const { a, delta, fanIn, fanOut } of factors) {
    for (let j = 0; j < count; j++) {
      out[j] += (1 + inner(a, i, a, j, fanIn)) * inner(delta, i, delta, j, fanOut);
    }
  }
  return out;
}

/** ‖∇f_i‖² of every node. */
function squaredNorms(factors, count) {
  const out = new Float64Array(count);
  for (const { a, delta, fanIn, fanOut } of factors) {
    for (let i = 0; i < count; i++) {
      out[i] += (1 + inner(a, i, a, i, fanIn)) * inner(delta, i, delta, i, fanOut);
    }
  }
  return out;
}

// ---------------------------------------------------------------- the two proxy covariances

/**
 * ∇fᵀ(F + λI)⁻¹∇f at n nodes, the first of which are the data, by conditioning on one chosen point
 * after another. Under the prior N(0, I/λ) point i observes s_iᵀθ with unit noise, so it takes
 * c_i² from the variance, c_i = Cov(·, s_i) / √(1 + Var(s_i)); the c_i are the rows that solve the
 * Cholesky factor of I + UUᵀ/λ. Points added later leave the rows before them as they are.
 */
class FullProxy {
  /**
   * @param {Factor[]} factors  at the nodes
   * @param {Float64Array} weights  (y_i − p_i)² of the data
   */
  constructor(factors, weights) {
    const count = factors[0].delta.length / factors[0].fanOut;
    this.factors = factors;
    this.weights = weights;
    this.count = count;
    this.squares = squaredNorms(factors, count);
    this.kernels = new Map(); // of the points that were chosen once
    this.rows = [];
    this.variance = new Float64Array(count);
    this.chosen = [];
    this.precision = NaN;
  }

  /**
   * @param {number[]} chosen  data points in any order; a common beginning with the last call is
   *   not computed again
   * @param {number} precision  λ
   * @returns {Float64Array} the variance of the logit at the nodes; the next call writes over it
   */
  update(chosen, precision) {
    const { squares, variance, count } = this;
    let kept = 0;
    if (precision === this.precision) {
      while (kept < chosen.length && chosen[kept] === this.chosen[kept]) kept++;
    }
    this.precision = precision;
    this.chosen = [...chosen];
    for (let node = 0; node < count; node++) variance[node] = squares[node] / precision;
    for (let at = 0; at < chosen.length; at++) {
      if (at >= kept) this.condition(at);
      subtractSquares(variance, this.rows[at]);
    }
    return variance;
  }

  /** Row `at` from the rows before it. */
  condition(at) {
    const { factors, rows, count, precision } = this;
    const point = this.chosen[at];
    if (!this.kernels.has(point)) this.kernels.set(point, kernelOf(factors, count, point));
    const row = (rows[at] ??= new Float64Array(count));
    const kernel = this.kernels.get(point);
    for (let node = 0; node < count; node++) row[node] = kernel[node] / precision;
    let before = 0;
    for (; before + 3 < at; before += 4) subtractFour(row, rows, before, point);
    for (; before < at; before++) subtract(row, rows[before], rows[before][point]);
    const weight = this.weights[point];
    const scale = Math.sqrt(weight / (1 + weight * row[point]));
    for (let node = 0; node < count; node++) row[node] *= scale;
  }
}

function subtractSquares(from, row) {
  for (let node = 0; node < from.length; node++) from[node] -= row[node] * row[node];
}

function subtract(from, row, times) {
  for (let node = 0; node < from.length; node++) from[node] -= times * row[node];
}

/** Subtract from `row` four others, each as often as it has of `point`. */
function subtractFour(row, rows, first, point) {
  const [a, b, c, d] = [rows[first], rows[first + 1], rows[first + 2], rows[first + 3]];
  const [ofA, ofB, ofC, ofD] = [a[point], b[point], c[point], d[point]];
  for (let node = 0; node < row.length; node++) {
    row[node] -= ofA * a[node] + ofB * b[node] + ofC * c[node] + ofD * d[node];
  }
}

/**
 * Σ_k (∂_k f)² / (F_kk + λ) at every node: the same with the matrix's diagonal only.
 * @param {Factor[]} factors  at the nodes, the first of which are the data
 * @param {Float64Array} weights  (y_i − p_i)² of the data
 * @param {number[]} chosen  data points
 * @param {number} precision  λ
 * @param {Float64Array} out  n, written over
 */
function diagonalProxy(factors, weights, chosen, precision, out) {
  out.fill(0);
  for (const factor of factors) {
    const variances = diagonalOf(factor, weights, chosen, precision);
    for (let node = 0; node < out.length; node++) out[node] += squareSum(factor, variances, node);
  }
  return out;
}

/** 1 / (F_kk + λ) of one layer, fan-out × (fan-in + 1): of each unit's weights, then its bias. */
function diagonalOf({ a, delta, fanIn, fanOut }, weights, chosen, precision) {
  const width = fanIn + 1;
  const out = new Float64Array(fanOut * width).fill(precision);
  for (const i of chosen) {
    for (let unit = 0; unit < fanOut; unit++) {
      const slope = delta[i * fanOut + unit];
      const mass = weights[i] * slope * slope;
      const to = unit * width;
      for (let at = 0; at < fanIn; at++) {
        const value = a[i * fanIn + at];
        out[to + at] += mass * value * value;
      }
      out[to + fanIn] += mass;
    }
  }
  for (let k = 0; k < out.length; k++) out[k] = 1 / out[k];
  return out;
}

/** Σ_k (∂_k f)² · variances_k of one layer at one node. */
function squareSum({ a, delta, fanIn, fanOut }, variances, node) {
  const start = node * fanIn;
  let total = 0;
  for (let unit = 0; unit < fanOut; unit++) {
    const from = unit * (fanIn + 1);
    const slope = delta[node * fanOut + unit];
    let sum = variances[from + fanIn];
    for (let at = 0; at < fanIn; at++) {
      const value = a[start + at];
      sum += variances[from + at] * value * value;
    }
    total += sum * slope * slope;
  }
  return total;
}

// ---------------------------------------------------------------- one network and its maps

/**
 * A grid around the data whose halves, x₂ > 0 and x₂ < 0, mirror each other: the rectangle whose
 * cells' centres are its points.
 * @param {Float64Array} x  n × 2
 * @returns {{x: [number, number], y: [number, number]}}
 */
function domainOf(x) {
  let [left, right, reach] = [Infinity, -Infinity, 0];
  for (let at = 0; at < x.length; at += 2) {
    left = Math.min(left, x[at]);
    right = Math.max(right, x[at]);
    reach = Math.max(reach, Math.abs(x[at + 1]));
  }
  const wider = (low, high) => {
    const [margin, cell] = [MARGIN * (high - low), ((1 + 2 * MARGIN) * (high - low)) / (SIDE - 1)];
    return [low - margin - cell / 2, high + margin + cell / 2];
  };
  return { x: wider(left, right), y: wider(-reach, reach) };
}

/**
 * A trained network with the maps of its uncertainty; knows nothing of the page.
 *
 * `identity`, `full` and `diagonal` are variances of p on the grid (squared probabilities), the
 * first fixed; `left.full` and `left.diagonal` are λ · proxy / identity, the share of the prior's
 * variance that the proxy leaves: 1 where it knows nothing, near 0 where it is certain.
 */
export class Experiment {
  /**
   * @param {{x: number[], labels: number[], theta: number[]}} problem  n × 2, n classes 0 or 1, the
   *   trained parameters in torch's order
   * @param {number[]} widths  of the hidden layers
   */
  constructor({ x, labels, theta }, widths) {
    const network = spec({ inputs: 2, widths, outputs: 1, activation: "tanh" });
    if (theta.length !== network.parameters || x.length !== 2 * labels.length) {
      const wanted = `${network.parameters} numbers in theta and ${2 * labels.length} in x`;
      throw new RangeError(`problem: widths and labels ask for ${wanted}; give as many.`);
    }
    this.points = labels.map((label, at) => ({ x: x[2 * at], y: x[2 * at + 1], label }));
    this.domain = domainOf(x);
    const nodes = Float64Array.from([...x, ...cellCentres(this.domain, SIDE)]);
    const { logits, factors } = logitGradients(network, theta, nodes);
    this.weights = Float64Array.from(labels, (label, i) => {
      const against = label ? logits[i] : -logits[i];
      return 1 / (1 + Math.exp(against)) ** 2;
    });
    this.factors = factors;
    this.proxy = new FullProxy(factors, this.weights);
    this.diagonalVariance = new Float64Array(nodes.length / 2);
    this.prepare(logits.subarray(labels.length));
  }

  /** What does not depend on the proxy, from the logits on the grid. */
  prepare(logits) {
    const map = () => new Float64Array(CELLS);
    this.probabilities = logits.map((logit) => 1 / (1 + Math.exp(-logit)));
    this.slopes = logits.map((logit) => (Math.exp(logit / 2) + Math.exp(-logit / 2)) ** -4);
    this.identity = this.slopes.map((slope, cell) => slope * this.squaresOf(cell));
    this.full = map();
    this.diagonal = map();
    this.left = { full: map(), diagonal: map() };
  }

  squaresOf(cell) {
    return this.proxy.squares[this.points.length + cell];
  }

  /**
   * Fill the maps.
   * @param {number[]} chosen  data points, in any order
   * @param {number} precision  λ
   */
  update(chosen, precision) {
    const { factors, weights, diagonalVariance } = this;
    this.write("full", this.proxy.update(chosen, precision), precision);
    diagonalProxy(factors, weights, chosen, precision, diagonalVariance);
    this.write("diagonal", diagonalVariance, precision);
  }

  write(name, variance, precision) {
    for (let cell = 0; cell < CELLS; cell++) {
      const value = variance[this.points.length + cell];
      this[name][cell] = this.slopes[cell] * value;
      this.left[name][cell] = (precision * value) / this.squaresOf(cell);
    }
  }
}

/** Means of a map over the top half of the grid and over the bottom half. */
function halves(map) {
  const mean = (part) => part.reduce((sum, value) => sum + value, 0) / part.length;
  return { top: mean(map.subarray(CELLS / 2)), bottom: mean(map.subarray(0, CELLS / 2)) };
}

/** Table 3's ratio: the mean of a map over the top half, over that of the bottom half. */
function ratio(map) {
  const { top, bottom } = halves(map);
  return top / bottom;
}

// ---------------------------------------------------------------- which points are chosen

/**
 * The chosen points after a stroke of the brush; the same array if it changed nothing.
 * @param {{x: number, y: number}[]} points
 * @param {number[]} chosen  indices, the oldest first
 * @param {{from: [number, number], to: [number, number], radius: number, mode: "paint" | "erase"}}
 *   stroke
 * @returns {number[]}
 */
export function stroked(points, chosen, { from, to, radius, mode }) {
  const before = new Set(chosen);
  const under = points.flatMap((point, i) => (distance(point, from, to) <= radius ? [i] : []));
  const hit = under.filter((i) => before.has(i) === (mode === "erase"));
  if (!hit.length) return chosen;
  if (mode === "paint") return [...chosen, ...hit];
  const gone = new Set(hit);
  return chosen.filter((i) => !gone.has(i));
}

/** Of a point from the segment between two places. */
function distance({ x, y }, [fromX, fromY], [toX, toY]) {
  const [dx, dy] = [toX - fromX, toY - fromY];
  const length = dx * dx + dy * dy;
  const along = length ? ((x - fromX) * dx + (y - fromY) * dy) / length : 0;
  const held = Math.max(0, Math.min(1, along));
  return Math.hypot(x - fromX - held * dx, y - fromY - held * dy);
}

// ---------------------------------------------------------------- drawing

/** Filled where chosen, hollow where not; class 0 is a circle, class 1 a square. */
function drawPoints({ context, toPixel }, points, chosen, colours) {
  const marked = new Set(chosen);
  for (const isChosen of [false, true]) {
    context.beginPath();
    points.forEach((point, i) => {
      if (marked.has(i) === isChosen) trace(context, toPixel(point.x, point.y), point.label);
    });
    context.lineWidth = isChosen ? 1 : 1.1;
    context.fillStyle = isChosen ? css(colours.ink) : css(colours.paper, 0.35);
    context.strokeStyle = isChosen ? css(colours.paper) : css(colours.ink, 0.55);
    context.fill();
    context.stroke();
  }
}

function trace(context, [x, y], label) {
  const size = 3;
  if (label) return context.rect(x - size + 0.3, y - size + 0.3, 2 * size - 0.6, 2 * size - 0.6);
  context.moveTo(x + size, y);
  return context.arc(x, y, size, 0, 2 * Math.PI);
}

/** The line between the halves. */
function drawMiddle({ context, toPixel, width }, colours) {
  const [, y] = toPixel(0, 0);
  context.strokeStyle = css(colours.ink, 0.5);
  context.lineWidth = 1;
  context.setLineDash([2, 4]);
  context.beginPath();
  context.moveTo(0, y);
  context.lineTo(width, y);
  context.stroke();
  context.setLineDash([]);
}

// ---------------------------------------------------------------- the ratios as dots

const REACH = 60; // the axis runs from 1/60 to 60
const TICKS = [1 / 30, 1 / 5, 1, 5, 30];
const ROWS = { identity: "Identity", full: "Full matrix", diagonal: "Diagonal" };

/** Where a ratio lies on the axis, as a percentage. */
const along = (value) =>
  50 + 50 * Math.max(-1, Math.min(1, Math.log(value) / Math.log(REACH)));

const twoDigits = (value) => format(Number(value.toPrecision(2)));

const sayTick = (tick) => (tick < 1 ? `1/${Math.round(1 / tick)}` : String(tick));

/**
 * Mean uncertainty, top over bottom, of the identity and both proxies; bars show the bias.
 * @returns {{node: HTMLElement, show: (ratios: Record<string, number>, matrix: string) => void}}
 */
function dotPlot() {
  const rows = Object.entries(ROWS).map(([key, text]) => {
    const mark = element("span", { className: `gnuq-proxy-dot gnuq-proxy-${key}` });
    const shift = element("span", { className: "gnuq-proxy-shift" });
    const track = element("span", { className: "gnuq-proxy-track" }, shift, mark);
    const value = element("span", { className: "gnuq-proxy-value" });
    const node = element("div", { className: "gnuq-proxy-row" }, text, track, value);
    return { key, node, mark, shift, value };
  });
  const ticks = TICKS.map((tick) => {
    const label = element("span", {}, sayTick(tick));
    label.style.left = `${along(tick)}%`;
    return label;
  });
  const axis = element("div", { className: "gnuq-proxy-ticks" }, ...ticks);
  const heading = element("p", { className: "gnuq-plane-title" }, "Uncertainty, top / bottom");
  const sides = element("p", { className: "gnuq-proxy-ends" });
  sides.append(element("span", {}, "← more below"), element("span", {}, "more above →"));
  const node = element("div", { className: "gnuq-proxy-ratios", "aria-hidden": "true" }, heading);
  node.append(...rows.map((row) => row.node), axis, sides);
  const show = (ratios, matrix) => {
    const origin = along(ratios.identity);
    for (const { key, node: row, mark, shift, value } of rows) {
      const place = along(ratios[key]);
      mark.style.left = `${place}%`;
      shift.style.left = `${Math.min(place, origin)}%`;
      shift.style.width = `${Math.abs(place - origin)}%`;
      value.textContent = twoDigits(ratios[key]);
      row.classList.toggle("gnuq-proxy-shown", key === matrix || key === "identity");
    }
  };
  return { node, show };
}

// ---------------------------------------------------------------- the brush

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const KEYS =
  "Arrow keys move the brush, with Shift finely. Space paints or erases the data under it.";
let brushes = 0;

/**
 * A round brush on a plane: drawn with pointer or finger, or moved by arrow keys and used by Space.
 * @param {ReturnType<typeof stage>} owner
 * @param {ReturnType<typeof plane>} onto
 * @param {{radius: () => number, name: (place: [number, number]) => string,
 *   act: (from: [number, number], to: [number, number]) => void}} options
 */
function brush(owner, onto, { radius, name, act }) {
  const hint = element("span", { className: "gnuq-hidden", id: `gnuq-brush-${++brushes}` }, KEYS);
  const mark = element("button", { type: "button", className: "gnuq-proxy-brush" });
  mark.setAttribute("aria-describedby", hint.id);
  const layer = element("div", { className: "gnuq-points", role: "application" }, hint, mark);
  layer.setAttribute("aria-label", "Brush");
  onto.surface.append(layer);
  onto.surface.classList.add("gnuq-proxy-canvas");
  const at = [0, 1];
  const show = () => {
    const across = onto.x[1] - onto.x[0];
    mark.style.left = `${((at[0] - onto.x[0]) / across) * 100}%`;
    mark.style.top = `${((onto.y[1] - at[1]) / (onto.y[1] - onto.y[0])) * 100}%`;
    mark.style.width = `${((2 * radius()) / across) * 100}%`;
    mark.setAttribute("aria-label", name(at));
  };
  const moveTo = (x, y) => {
    at[0] = Math.max(onto.x[0], Math.min(onto.x[1], x));
    at[1] = Math.max(onto.y[0], Math.min(onto.y[1], y));
    show();
  };
  onPointer(onto, stroke(at, moveTo, act), owner.signal);
  const hover = ({ offsetX, offsetY, pointerType, buttons }) => {
    if (pointerType === "mouse" && !buttons) moveTo(...onto.toData(offsetX, offsetY));
  };
  onto.surface.addEventListener("pointermove", hover, { signal: owner.signal });
  mark.addEventListener("click", () => act(at, at), { signal: owner.signal });
  mark.addEventListener("keydown", (event) => {
    const direction = STEPS[event.key];
    if (!direction || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = radius() * (event.shiftKey ? 0.2 : 1);
    moveTo(at[0] + step * direction[0], at[1] + step * direction[1]);
    event.preventDefault();
  }, { signal: owner.signal });
  return { show };
}

/** What a pointer does: a stroke from each place to the next. */
function stroke(at, moveTo, act) {
  return (phase, x, y) => {
    const from = phase === "start" ? [x, y] : [...at];
    moveTo(x, y);
    if (phase !== "end") act(from, [x, y]);
  };
}

// ---------------------------------------------------------------- the figure

/**
 * @param {HTMLElement} host
 * @param {{widths: number[], problems: Record<string, {x: number[], labels: number[],
 *   theta: number[]}>}} options  the networks as `Experiment` takes them, trained with λ = 1; the
 *   first is shown first
 * @param {(state: {problem: string, matrix: string, precision: number, chosen: number[],
 *   ratios: Record<string, number>}) => void} [report]
 * @returns {{destroy: () => void}}
 */
export function mount(host, options, report = () => {}) {
  const owner = stage(host, { label: "Choose the data of a proxy covariance with a brush" });
  const figure = new Figure(owner, options, report);
  figure.choose("top");
  return { destroy: () => owner.destroy() };
}

export default widget(mount);

class Figure {
  constructor(owner, { widths, problems }, report) {
    Object.assign(this, { owner, widths, problems, report, ...START });
    this.experiments = {};
    this.problem = Object.keys(problems)[0];
    this.chosen = [];
    this.paint = mapPainter(SIDE);
    this.recolour();
    owner.onTheme(() => this.recolour()); // before the planes draw themselves again
    this.makePlanes();
    this.dots = dotPlot();
    const box = (className, ...nodes) => element("div", { className }, ...nodes);
    const layout = box(
      "gnuq-proxy",
      box("gnuq-proxy-main", this.main.node, this.brushControls()),
      box("gnuq-proxy-side", this.fixed.node, this.share.node),
      this.dots.node,
    );
    owner.body.append(this.problemControls(), layout);
    this.showScales();
  }

  /** The network of the chosen problem, computed when it is first asked for. */
  get experiment() {
    const { experiments, problem, problems, widths } = this;
    return (experiments[problem] ??= new Experiment(problems[problem], widths));
  }

  recolour() {
    this.colours = palette(this.owner.node);
    const { paper, epistemic, reference } = this.colours;
    this.blues = ramp(paper, epistemic);
    this.greys = ramp(paper, reference);
    if (this.main) this.showScales();
  }

  makePlanes() {
    const { domain } = this.experiment;
    const make = (title, hue, draw) => plane(this.owner, { title, hue, ...domain, draw });
    this.main = make("Proxy, gᵀ(F + λI)⁻¹g: paint here", "epistemic", () => this.drawMain());
    this.fixed = make("Identity, ‖g‖²", "epistemic", () =>
      this.drawMap(this.fixed, this.experiment.identity, this.blues),
    );
    this.share = make("λ · proxy / identity", "reference", () =>
      this.drawMap(this.share, this.experiment.left[this.matrix], this.greys, 1),
    );
    this.brush = brush(this.owner, this.main, {
      radius: () => this.radius,
      name: (place) => this.nameBrush(place),
      act: (from, to) => this.stroke(from, to),
    });
    this.fit();
  }

  /** Let the planes show the chosen problem's rectangle, in equal units. */
  fit() {
    const { x, y } = this.experiment.domain;
    for (const one of [this.main, this.fixed, this.share]) {
      Object.assign(one, { x, y });
      one.surface.style.aspectRatio = String((x[1] - x[0]) / (y[1] - y[0]));
    }
    this.fixed.redraw();
    this.brush.show();
  }

  // -------------------------------------------------------------- controls

  problemControls() {
    const names = Object.keys(this.problems);
    const pick = (key, label, options) =>
      choice({ label, options, value: this[key], onChoose: (value) => this.set(key, value) });
    const options = names.map((value) => ({ value, text: NAMES[value] }));
    const problem = pick("problem", "Problem", options);
    const matrix = pick("matrix", "Matrix", [
      { value: "full", text: "Full matrix" },
      { value: "diagonal", text: "Diagonal" },
    ]);
    const precision = slider({
      label: "λ",
      values: PRECISIONS,
      value: this.precision,
      onInput: (value) => this.set("precision", value),
    });
    return controls(problem, matrix, precision);
  }

  brushControls() {
    const mode = choice({
      label: "Brush",
      options: [
        { value: "paint", text: "Paint" },
        { value: "erase", text: "Erase" },
      ],
      value: this.mode,
      onChoose: (value) => this.set("mode", value),
    });
    const size = slider({
      label: "Radius",
      values: RADII,
      value: this.radius,
      onInput: (value) => this.set("radius", value),
    });
    const parts = element("div", { className: "gnuq-buttons", role: "group" });
    parts.setAttribute("aria-label", "Choose at once");
    for (const [key, { text }] of Object.entries(PARTS)) {
      parts.append(button({ text, onClick: () => this.choose(key) }));
    }
    return controls(named("Brush", mode), named("Choose at once", parts), size);
  }

  set(key, value) {
    this[key] = value;
    if (key === "problem") {
      this.fit();
      this.choose("top");
    } else if (key === "mode" || key === "radius") this.brush.show();
    else this.changed();
  }

  choose(part) {
    const { holds } = PARTS[part];
    this.chosen = this.experiment.points.flatMap(({ y }, i) => (holds(y) ? [i] : []));
    this.changed();
  }

  stroke(from, to) {
    const { points } = this.experiment;
    const chosen = stroked(points, this.chosen, { from, to, radius: this.radius, mode: this.mode });
    if (chosen === this.chosen) return;
    this.chosen = chosen;
    this.changed();
  }

  // -------------------------------------------------------------- drawing

  changed() {
    this.owner.schedule(() => this.draw());
  }

  draw() {
    const { experiment } = this;
    experiment.update(this.chosen, this.precision);
    this.main.redraw();
    this.share.redraw();
    const { identity, full, diagonal } = experiment;
    this.ratios = { identity: ratio(identity), full: ratio(full), diagonal: ratio(diagonal) };
    this.dots.show(this.ratios, this.matrix);
    this.showScales();
    this.brush.show();
    this.owner.describe(this.sentence());
    const { problem, matrix, precision, chosen, ratios } = this;
    this.report({ problem, matrix, precision, chosen, ratios });
  }

  drawMap(onto, values, table, top = maximum(values)) {
    const { colours, experiment } = this;
    this.paint(onto, values, table, top);
    const colour = css(colours.ink, 0.75);
    contour(onto, experiment.probabilities, { level: 0.5, columns: SIDE, colour, width: 1.2 });
    drawMiddle(onto, colours);
  }

  drawMain() {
    const { main, experiment, matrix, blues, chosen, colours } = this;
    this.drawMap(main, experiment[matrix], blues);
    drawPoints(main, experiment.points, chosen, colours);
  }

  showScales() {
    const { experiment, matrix, blues, greys } = this;
    showScale(this.main, blues, maximum(experiment[matrix]));
    showScale(this.fixed, blues, maximum(experiment.identity));
    showScale(this.share, greys, 1);
  }

  // -------------------------------------------------------------- words

  nameBrush([x, y]) {
    const { points } = this.experiment;
    const near = points.flatMap((point, i) =>
      Math.hypot(point.x - x, point.y - y) <= this.radius ? [i] : [],
    );
    const held = new Set(this.chosen);
    const count = near.filter((i) => held.has(i)).length;
    const verb = this.mode === "paint" ? "Paint" : "Erase";
    const where = `${verb} at ${format(x)}, ${format(y)}`;
    return `${where}: ${count} of ${near.length} points here are chosen`;
  }

  sentence() {
    const { experiment, chosen, matrix, precision, ratios, problem } = this;
    const above = chosen.filter((i) => experiment.points[i].y > 0).length;
    const { top, bottom } = halves(experiment.left[matrix]);
    const percent = (share) => `${Math.round(100 * share)} %`;
    const kind = matrix === "full" ? "full matrix" : "diagonal";
    return (
      `${NAMES[problem]}, ${kind}, λ = ${precision}. The proxy sees ${chosen.length} of ` +
      `${experiment.points.length} points, ${above} of them in the top half. Mean uncertainty, ` +
      `top over bottom: ${twoDigits(ratios[matrix])}; under the identity ` +
      `${twoDigits(ratios.identity)}. ` +
      `The proxy leaves ${percent(top)} of the prior's variance in the top half, ` +
      `${percent(bottom)} in the bottom half.`
    );
  }
}

const maximum = (values) => values.reduce((most, value) => Math.max(most, value), 0);
