/**
 * The delta method in one dimension: a Gaussian over a parameter θ, a prediction f(θ), its tangent.
 *
 * The first half is the mathematics, exact to quadrature; the second half draws it.
 */
import { button, choice, controls, css, element, format, movable, named } from "./stage.js";
import { palette, plane, slider, stage, widget } from "./stage.js";

// ---------------------------------------------------------------- the three predictions

const QUARTER = Math.PI / 2; // of a turn: the sine is flat at u = ±1, as the cubic is

/**
 * A prediction f(θ) = F(u) with u = xθ, so that one input x is one slope of u.
 * @typedef {object} Prediction
 * @property {string} label
 * @property {string} formula
 * @property {string} symbol  what the vertical axis is called
 * @property {boolean} probability  whether f is the probability of class 1
 * @property {(u: number) => number} value  F(u)
 * @property {(u: number) => number} slope  F′(u)
 * @property {(u: number, v: number) => number} difference  F(u) − F(v), without cancellation
 * @property {(y: number, low: number, high: number) => number[]} preimages
 *   every u with F(u) = y; of infinitely many, those in [low, high]
 * @property {[number, number]} view  the least range of the vertical axis
 */

/** @type {Readonly<Record<string, Prediction>>} */
export const PREDICTIONS = Object.freeze({
  logistic: {
    label: "Logistic",
    formula: "p(θ) = 1 / (1 + exp(−xθ))",
    symbol: "p",
    probability: true,
    value: (u) => 1 / (1 + Math.exp(-u)),
    slope: (u) => 0.25 / Math.cosh(u / 2) ** 2,
    difference: (u, v) => -Math.expm1(v - u) / ((1 + Math.exp(-u)) * (1 + Math.exp(v))),
    preimages: (y) => (y > 0 && y < 1 ? [Math.log(y / (1 - y))] : []),
    view: [-0.3, 1.3],
  },
  cubic: {
    label: "Cubic",
    formula: "f(θ) = (xθ)³/3 − xθ",
    symbol: "f",
    probability: false,
    value: (u) => u * ((u * u) / 3 - 1),
    slope: (u) => u * u - 1,
    difference: (u, v) => (u - v) * ((u * u + u * v + v * v) / 3 - 1),
    preimages: (y) => cubicRoots(1.5 * y),
    view: [-1.5, 1.5],
  },
  sine: {
    label: "Sine",
    formula: "f(θ) = sin(½πxθ)",
    symbol: "f",
    probability: false,
    value: (u) => Math.sin(QUARTER * u),
    slope: (u) => QUARTER * Math.cos(QUARTER * u),
    difference: (u, v) => 2 * Math.cos((QUARTER * (u + v)) / 2) * Math.sin((QUARTER * (u - v)) / 2),
    preimages: (y, low, high) => (Math.abs(y) <= 1 ? sineRoots(y, low, high) : []),
    view: [-1.8, 1.8],
  },
});

/** The u with u³/3 − u = 2c/3: u = 2 cos t makes it cos 3t = c, and u = ±2 cosh t cosh 3t = ±c. */
function cubicRoots(c) {
  if (Math.abs(c) > 1) return [2 * Math.sign(c) * Math.cosh(Math.acosh(Math.abs(c)) / 3)];
  const third = Math.acos(c) / 3;
  return [0, 1, 2].map((turn) => 2 * Math.cos(third - (2 * Math.PI * turn) / 3));
}

/** The u in [low, high] with sin(½πu) = y: two in each period of 4. */
function sineRoots(y, low, high) {
  const first = Math.asin(y) / QUARTER;
  const found = [];
  for (const root of [first, 2 - first]) {
    for (let k = Math.ceil((low - root) / 4); root + 4 * k <= high; k++) found.push(root + 4 * k);
  }
  return found;
}

// ---------------------------------------------------------------- moments and densities

/**
 * @typedef {{prediction: string, x: number, mean: number, sd: number}} Setting
 *   the name of the prediction, the input, and the posterior N(mean, sd²) of θ
 *
 * @typedef {object} Moments
 * @property {number} point  f* = f(θ*)
 * @property {number} gradient  g = f′(θ*)
 * @property {number} expected  E[f]
 * @property {number} variance  Var[f]
 * @property {number} linearised  g²σ², what the delta method says Var[f] is
 * @property {number} ratio  linearised / variance
 * @property {number} aleatoric  E[f(1 − f)]
 * @property {number} total  E[f](1 − E[f]) = aleatoric + variance
 */

/**
 * The trapezoid rule for E[h(Z)], Z standard normal. For these analytic h its error falls like
 * exp(−2πd/step), d the distance of the nearest pole: below 1e-13 up to |x|σ = 9.
 */
const STEP = 1 / 24;
const NODES = Float64Array.from({ length: 24 * 24 + 1 }, (_, at) => at * STEP - 12);
const WEIGHTS = NODES.map((z) => STEP * gaussian(z));

/** The standard normal density at z. */
function gaussian(z) {
  return Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
}

/**
 * @param {Setting} setting
 * @returns {Moments}
 */
export function moments({ prediction, x, mean, sd }) {
  const { value, slope, difference } = PREDICTIONS[prediction];
  const [centre, scale] = [x * mean, x * sd];
  const point = value(centre);
  const gradient = x * slope(centre);
  let [first, second] = [0, 0]; // moments of f − f*: those of f itself would cancel
  for (let at = 0; at < NODES.length; at++) {
    const off = difference(centre + scale * NODES[at], centre);
    first += WEIGHTS[at] * off;
    second += WEIGHTS[at] * off * off;
  }
  const variance = second - first * first;
  const linearised = (gradient * sd) ** 2;
  const expected = point + first;
  const aleatoric = point * (1 - point) + (1 - 2 * point) * first - second;
  return {
    point, gradient, expected, variance, linearised,
    ratio: linearised / variance, aleatoric, total: expected * (1 - expected),
  };
}

/**
 * The density of f(θ) at y, by change of variables: a sum over all θ with f(θ) = y. It is infinite
 * where one of them is a turning point of f.
 * @param {Setting} setting
 * @param {number} y
 * @returns {number}
 */
export function density({ prediction, x, mean, sd }, y) {
  const { slope, preimages } = PREDICTIONS[prediction];
  const [centre, scale] = [x * mean, Math.abs(x) * sd];
  return preimages(y, centre - 9 * scale, centre + 9 * scale)
    .map((u) => gaussian((u - centre) / scale) / (scale * Math.abs(slope(u))))
    .reduce((sum, term) => sum + term, 0);
}

/**
 * The density at y of the tangent f* + g(θ − θ*), a Gaussian. A flat tangent has none.
 * @param {Moments} found
 * @param {number} y
 * @returns {number}
 */
export function tangentDensity({ point, linearised }, y) {
  const sd = Math.sqrt(linearised);
  return gaussian((y - point) / sd) / sd;
}

/** P(Z > z) for a standard normal Z, to 1e-7 (Abramowitz and Stegun, 26.2.17). */
function upperTail(z) {
  if (z < 0) return 1 - upperTail(-z);
  const t = 1 / (1 + 0.2316419 * z);
  const terms = [0.31938153, -0.356563782, 1.781477937, -1.821255978, 1.330274429];
  return gaussian(z) * terms.reduceRight((sum, term) => t * (term + sum), 0);
}

/**
 * The probability that the tangent gives to values below 0 or above 1.
 * @param {Moments} found
 * @returns {number}
 */
export function impossible({ point, linearised }) {
  const sd = Math.sqrt(linearised);
  return upperTail(point / sd) + upperTail((1 - point) / sd);
}

// ---------------------------------------------------------------- where the approximation ends

export const TOLERANCE = 0.1; // the delta method "holds" while it is within a tenth of the truth

/** What the sliders offer. The posterior's standard deviation is on a logarithmic scale. */
const even = (low, step, count) =>
  Array.from({ length: count }, (_, at) => Number((low + step * at).toFixed(2)));
export const VALUES = Object.freeze({
  x: even(0.25, 0.05, 56),
  mean: even(-3, 0.02, 301),
  // 196 a decade, so that 0.05, 0.1, 0.2, 0.5, 1 and 2 are among them
  sd: Array.from({ length: 350 }, (_, at) =>
    Math.min(3, Number((10 ** ((at - 255) / 196)).toPrecision(3)))),
});
const SPREADS = Array.from({ length: 71 }, (_, at) => 0.05 * 60 ** (at / 70)); // for the ratio

const nearest = (values, value) =>
  values.reduce((best, next) => (Math.abs(next - value) < Math.abs(best - value) ? next : best));

/**
 * Linearised over true variance as the posterior widens, and the σ at which it first leaves
 * 1 ± TOLERANCE: the least σ if it is never inside, Infinity if it never leaves.
 * @param {Setting} setting  its own sd plays no part
 * @returns {{ratios: number[], reach: number}}
 */
export function widening(setting) {
  const ratioAt = (sd) => moments({ ...setting, sd }).ratio;
  const holds = (ratio) => Math.abs(ratio - 1) <= TOLERANCE;
  const ratios = SPREADS.map(ratioAt);
  const first = ratios.findIndex((ratio) => !holds(ratio));
  if (first <= 0) return { ratios, reach: first < 0 ? Infinity : SPREADS[0] };
  let [inside, outside] = [SPREADS[first - 1], SPREADS[first]];
  while (outside - inside > 1e-6) {
    const middle = (inside + outside) / 2;
    if (holds(ratioAt(middle))) inside = middle;
    else outside = middle;
  }
  return { ratios, reach: inside };
}

/**
 * The least and the greatest slope of the curve within one standard deviation of θ*.
 * @param {Setting} setting
 * @returns {[number, number]}
 */
export function slopes({ prediction, x, mean, sd }) {
  const { slope } = PREDICTIONS[prediction];
  const found = Array.from({ length: 201 }, (_, at) => x * slope(x * (mean + sd * (at / 100 - 1))));
  return [Math.min(...found), Math.max(...found)];
}

// ---------------------------------------------------------------- in words

const within = Math.round(100 * TOLERANCE);
const percent = (share) => `${format(100 * share)} %`;

/** A number that is zero but for rounding becomes zero. */
const tidy = (value, scale = 1) => (Math.abs(value) < 1e-12 * scale ? 0 : value);

/** What the delta method says the variance is: rounding aside, 0 on a flat tangent. */
const estimate = ({ linearised, variance }) => tidy(linearised, variance);

function verdict(found) {
  const { ratio, variance } = found;
  const exact = format(variance);
  if (!estimate(found)) {
    return `The tangent is flat: the delta method says 0 where the exact variance is ${exact}.`;
  }
  const said = `it says ${format(estimate(found))}, the exact variance is ${exact}`;
  if (Math.abs(ratio - 1) <= TOLERANCE) return `The delta method holds: ${said}.`;
  const size = ratio > 1 ? `${format(ratio)} times` : `${percent(ratio)} of`;
  const off = ratio > 2 || ratio < 0.5 ? "fails" : "is off";
  return `The delta method ${off}: ${said}. That is ${size} the truth.`;
}

function reason(setting, found) {
  const [low, high] = slopes(setting).map((slope) => format(tidy(slope)));
  const tangent = estimate(found) ? format(found.gradient) : "0";
  const curve = `Within one σ of θ* the slope of the curve runs from ${low} to ${high}`;
  return `${curve}; the tangent's is ${tangent}.`;
}

function reachOf(reach) {
  if (reach === SPREADS[0]) return `At this θ* it is off by over ${within} % from σ = 0.05 on.`;
  const last = Math.min(reach, VALUES.sd.at(-1));
  return `At this θ* it stays within ${within} % up to σ = ${format(last)}.`;
}

/** What only a probability can show: values that cannot be, and the sums of Eq. (2). */
function probabilityText(found) {
  const beyond = impossible(found);
  const total = found.point * (1 - found.point) + estimate(found);
  const outside = `The tangent puts ${percent(beyond)} of its mass outside 0 to 1.`;
  const exact = format(found.total);
  const sum = `p*(1 − p*) and g²σ² add up to ${format(total)}, the exact total is ${exact}.`;
  return beyond > 0.001 ? `${outside} ${sum}` : sum;
}

function meanText({ expected, point, ratio }, symbol) {
  const same = Math.abs(expected - point) < 1e-9;
  const said = `E[${symbol}] = ${format(tidy(expected))}, ${symbol}* = ${format(tidy(point))}`;
  if (!same || Math.abs(ratio - 1) <= TOLERANCE) return `${said}.`;
  return `${said}: equal, and the variance is wrong all the same.`;
}

/** The figure as sentences. */
function sentences(setting, found, reach) {
  const { label, probability, symbol } = PREDICTIONS[setting.prediction];
  return [
    `${label}, x = ${format(setting.x)}, θ* = ${format(setting.mean)}, σ = ${format(setting.sd)}.`,
    verdict(found),
    reason(setting, found),
    reachOf(reach),
    meanText(found, symbol),
    ...(probability ? [probabilityText(found)] : []),
  ].join(" ");
}

/** The rows of the table of numbers: name, exact, estimated, class of its colour. */
function numbers(found, { probability, symbol: f }) {
  const delta = estimate(found);
  const bernoulli = found.point * (1 - found.point);
  const name = probability ? "epistemic" : "variance";
  const rows = [
    ["mean", `E[${f}]`, tidy(found.expected), `${f}*`, tidy(found.point), ""],
    [name, `Var[${f}]`, found.variance, "g²σ²", delta, "epistemic"],
  ];
  if (!probability) return rows;
  return [
    ...rows,
    ["aleatoric", "E[p(1−p)]", found.aleatoric, "p*(1−p*)", bernoulli, "aleatoric"],
    ["total", "p̄(1−p̄)", found.total, "their sum", bernoulli + delta, ""],
  ];
}

// ---------------------------------------------------------------- drawing

const VIEW = [-6.2, 6.2]; // of θ
const FONT = 11; // pixels
/** Where a standard normal's ten slices of equal probability have their middles. */
const SLICES = [-1.645, -1.036, -0.674, -0.385, -0.126, 0.126, 0.385, 0.674, 1.036, 1.645];

/**
 * Let the view fill a plane but for margins, in pixels; what lies outside keeps its scale.
 * @param {ReturnType<typeof plane>} onto
 * @param {{x: number[], y: number[]}} view
 * @param {{left: number, right: number, top: number, bottom: number}} margin
 */
function frame(onto, { x, y }, { left, right, top, bottom }) {
  const across = (x[1] - x[0]) / (onto.width - left - right);
  const up = (y[1] - y[0]) / (onto.height - top - bottom);
  onto.x = [x[0] - left * across, x[1] + right * across];
  onto.y = [y[0] - bottom * up, y[1] + top * up];
}

function line(context, points, { colour, width = 1.5, dash = [] }) {
  context.beginPath();
  for (const [left, top] of points) context.lineTo(left, top);
  Object.assign(context, { strokeStyle: colour, lineWidth: width, lineJoin: "round" });
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

function area(context, points, fill) {
  context.beginPath();
  for (const [left, top] of points) context.lineTo(left, top);
  context.fillStyle = fill;
  context.fill();
}

function write(context, text, left, top, { colour, align = "center", baseline = "middle" }) {
  Object.assign(context, { fillStyle: colour, textAlign: align, textBaseline: baseline });
  context.fillText(text, left, top);
}

/** Round numbers in a range, about `count` of them. */
function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  return found;
}

const span = (from, to, step) =>
  Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) + 1 }, (_, at) =>
    Math.min(to, from + at * step));

/** Let `paint` reach nothing outside a box. */
function clipped(context, { left, right, top, bottom }, paint) {
  context.save();
  context.beginPath();
  context.rect(left, top, right - left, bottom - top);
  context.clip();
  paint();
  context.restore();
}

/** Thin parallel lines over a box: a fill that does not need its colour. */
function hatch(context, box, colour, gap = 6) {
  const { left, right, top, bottom } = box;
  const height = bottom - top;
  clipped(context, box, () => {
    context.beginPath();
    for (let at = left - height; at < right; at += gap) {
      context.moveTo(at, bottom);
      context.lineTo(at + height, top);
    }
    Object.assign(context, { strokeStyle: colour, lineWidth: 1 });
    context.stroke();
  });
}

/** The range of the vertical axis: the prediction's own, and all values that the rays reach. */
function verticalView({ prediction, x, mean, sd }) {
  const { value, view, probability } = PREDICTIONS[prediction];
  if (probability) return view;
  const curve = SLICES.map((z) => value(x * (mean + sd * z)));
  const [low, high] = [Math.min(...curve, view[0]), Math.max(...curve, view[1])];
  const room = prediction === "cubic" ? 0.06 * (high - low) : 0;
  return [low - room, high + room];
}

/** The upper left part: the curve, its tangent, and between them the error where θ is likely. */
function drawCurve(context, scene) {
  const { setting, found, onto, box, colours } = scene;
  const { value } = PREDICTIONS[setting.prediction];
  const { x, mean, sd } = setting;
  const columns = span(box.left, box.right, 1).map((left) => {
    const theta = onto.toData(left, 0)[0];
    const curve = onto.toPixel(0, value(x * theta))[1];
    const tangent = onto.toPixel(0, found.point + found.gradient * (theta - mean))[1];
    return { left, curve, tangent, weight: gaussian((theta - mean) / sd) / gaussian(0) };
  });
  const path = (key) => columns.map((column) => [column.left, column[key]]);
  clipped(context, box, () => {
    for (const { left, curve, tangent, weight } of columns) {
      context.fillStyle = css(colours.total, 0.42 * weight);
      context.fillRect(left - 0.5, Math.min(curve, tangent), 1, Math.abs(curve - tangent));
    }
    line(context, path("tangent"), { colour: css(colours.reference), width: 1.8, dash: [6, 4] });
    line(context, path("curve"), { colour: css(colours.epistemic), width: 2.4 });
  });
}

/** Ten equally likely θ, up to the curve and across to the value that it gives them. */
function drawRays(context, { setting, onto, box, colours }) {
  const { value } = PREDICTIONS[setting.prediction];
  for (const z of SLICES) {
    const theta = setting.mean + z * setting.sd;
    const [left, top] = onto.toPixel(theta, value(setting.x * theta));
    if (left < box.left || left > box.right || top < box.top || top > box.bottom) continue;
    const route = [[left, box.floor], [left, top], [box.side, top]];
    line(context, route, { colour: css(colours.epistemic, 0.4), width: 1 });
  }
}

/** Below the axis: the posterior of θ, scaled to its peak. */
function drawPosterior(context, { setting, onto, box, colours }) {
  const { mean, sd } = setting;
  const tall = box.floor - box.ceiling;
  const outline = span(box.left, box.right, 1).map((left) => {
    const theta = onto.toData(left, 0)[0];
    return [left, box.floor - (tall * gaussian((theta - mean) / sd)) / gaussian(0)];
  });
  const closed = [[box.left, box.floor], ...outline, [box.right, box.floor]];
  area(context, closed, css(colours.ink, 0.14));
  line(context, outline, { colour: css(colours.ink), width: 1.5 });
  const [[middle], [side]] = [mean, mean + sd].map((theta) => onto.toPixel(theta, 0));
  const thin = { colour: css(colours.ink, 0.6), width: 1 };
  const level = flank(box);
  line(context, [[middle, box.floor], [middle, box.ceiling]], thin);
  line(context, [[middle, level], [side, level]], thin);
  write(context, "σ", side + 17, level, { colour: css(colours.ink) });
}

/** Right of the curve: the density of f(θ), and that of the tangent, to one scale. */
function drawValues(context, scene) {
  const { setting, found, onto, box, colours } = scene;
  const rows = span(box.top, box.bottom, 0.5);
  const heights = rows.map((top) => onto.toData(0, top)[1]);
  const exact = heights.map((y) => density(setting, y));
  const tangent = heights.map((y) => tangentDensity(found, y));
  const room = box.end - box.side;
  const factor = room / scaleOf(exact);
  const outline = (values) =>
    values.map((value, at) => [box.side + Math.min(room, factor * value), rows[at]]);
  const closed = [[box.side, box.top], ...outline(exact), [box.side, box.bottom]];
  area(context, closed, css(colours.epistemic, 0.28));
  line(context, outline(exact), { colour: css(colours.epistemic), width: 1.6 });
  const dashed = { colour: css(colours.reference), width: 1.6, dash: [5, 3] };
  const spike = [box.side, box.end].map((left) => [left, onto.toPixel(0, found.point)[1]]);
  line(context, estimate(found) ? outline(tangent) : spike, dashed);
}

/** The density that fills the strip: the highest, unless that is a narrow spike. */
function scaleOf(values) {
  const finite = values.filter(Number.isFinite);
  const sum = finite.reduce((all, value) => all + value, 0);
  const squares = finite.reduce((all, value) => all + value * value, 0);
  return Math.min(Math.max(...finite), (2.5 * squares) / sum) || 1;
}

/** At the right edge: one standard deviation either side of the mean, exact and of the tangent. */
function drawSpreads(context, { found, onto, box, colours }) {
  const bars = [
    { mean: found.expected, variance: found.variance, left: box.end + 9, colour: colours.epistemic },
    { mean: found.point, variance: estimate(found), left: box.end + 20, colour: colours.reference },
  ];
  bars.forEach(({ mean, variance, left, colour }, at) => {
    const sd = Math.sqrt(variance);
    const inside = (y) => Math.max(box.top, Math.min(box.bottom, onto.toPixel(0, y)[1]));
    const ends = [[left, inside(mean - sd)], [left, inside(mean + sd)]];
    line(context, ends, { colour: css(colour), width: 2.4, dash: at ? [4, 2.5] : [] });
    disc(context, left, inside(mean), css(at ? colours.paper : colour), css(colour));
  });
}

function disc(context, left, top, fill, edge) {
  context.beginPath();
  context.arc(left, top, 4, 0, 2 * Math.PI);
  Object.assign(context, { fillStyle: fill, strokeStyle: edge, lineWidth: 1.8 });
  context.fill();
  context.stroke();
}

function drawAxes(context, scene) {
  const { setting, onto, box, colours } = scene;
  const { symbol, probability } = PREDICTIONS[setting.prediction];
  const [low, high] = [box.bottom, box.top].map((top) => onto.toData(0, top)[1]);
  const [muted, ink] = [colours.muted, colours.ink].map((colour) => ({ colour: css(colour) }));
  if (probability) drawImpossible(context, scene);
  for (const y of probability ? [0, 0.5, 1] : ticks([low, high], 5)) {
    const [, top] = onto.toPixel(0, y);
    line(context, [[box.left, top], [box.end, top]], { colour: css(colours.grid), width: 1 });
    write(context, format(y), box.left - 6, top, { ...muted, align: "right" });
  }
  for (const theta of ticks(VIEW, 6)) {
    write(context, format(theta), onto.toPixel(theta, 0)[0], box.floor + 10, muted);
  }
  const axis = { colour: css(colours.axis), width: 1 };
  line(context, [[box.left, box.floor], [box.right, box.floor]], axis);
  line(context, [[box.side, box.top], [box.side, box.bottom]], axis);
  write(context, "θ", box.right + 8, box.floor + 10, ink);
  write(context, symbol, box.left - 10, box.top + 6, { ...ink, align: "right" });
}

/** Hatch the values below 0 and above 1, which only the tangent reaches. */
function drawImpossible(context, { onto, box, colours }) {
  const [zero, one] = [0, 1].map((y) => onto.toPixel(0, y)[1]);
  const grey = css(colours.grid);
  hatch(context, { left: box.left, right: box.end, top: box.top, bottom: one }, grey);
  hatch(context, { left: box.left, right: box.end, top: zero, bottom: box.bottom }, grey);
  const style = { colour: css(colours.muted), align: "left" };
  write(context, "not a probability", box.left + 6, box.top + 9, style);
}

/** Where the parts of the main plane are, in pixels. */
function parts({ width, height }) {
  const strip = Math.max(58, 0.19 * width);
  const right = width - strip - 40;
  const floor = height - 20;
  const bottom = 0.76 * height;
  const box = { left: 36, right, top: 6, bottom, side: right + 10, end: right + 10 + strip };
  return { ...box, ceiling: bottom + 12, floor };
}

function drawMain(context, onto, scene) {
  const box = parts(onto);
  const margin = { left: box.left, right: onto.width - box.right };
  const y = verticalView(scene.setting);
  frame(onto, { x: VIEW, y }, { ...margin, top: box.top, bottom: onto.height - box.bottom });
  const whole = { ...scene, onto, box };
  context.font = `${FONT}px ${scene.colours.sans}`;
  drawAxes(context, whole);
  drawPosterior(context, whole);
  drawRays(context, whole);
  drawValues(context, whole);
  drawCurve(context, whole);
  drawSpreads(context, whole);
}

const RATIO_VIEW = { x: [Math.log(0.05), Math.log(3)], y: [-1, 1] }; // ln σ, log₁₀ of the ratio

/** Linearised over true variance against σ, both on logarithmic axes. */
function drawRatio(context, onto, { setting, found, ratios, reach, colours }) {
  frame(onto, RATIO_VIEW, { left: 30, right: 8, top: 6, bottom: 20 });
  const [left, top] = onto.toPixel(RATIO_VIEW.x[0], RATIO_VIEW.y[1]);
  const [right, bottom] = onto.toPixel(RATIO_VIEW.x[1], RATIO_VIEW.y[0]);
  const box = { left, right, top, bottom };
  const at = (sd, ratio) => onto.toPixel(Math.log(sd), Math.log10(Math.max(ratio, 1e-3)));
  context.font = `${FONT}px ${colours.sans}`;
  drawRatioAxes(context, { box, at, colours });
  if (reach > SPREADS[0] && Number.isFinite(reach)) {
    const [column] = at(reach, 1);
    line(context, [[column, top], [column, bottom]], { colour: css(colours.good), dash: [2, 3] });
  }
  const curve = SPREADS.map((sd, index) => at(sd, ratios[index]));
  clipped(context, box, () => line(context, curve, { colour: css(colours.ink), width: 2 }));
  markRatio(context, at(setting.sd, found.ratio), { top, bottom, colours });
}

/** The grid, its numbers, and the band in which the delta method holds. */
function drawRatioAxes(context, { box: { left, right, top, bottom }, at, colours }) {
  const muted = { colour: css(colours.muted) };
  const aside = { ...muted, align: "left" };
  const [low, high] = [1 - TOLERANCE, 1 + TOLERANCE].map((ratio) => at(1, ratio)[1]);
  context.fillStyle = css(colours.good, 0.2);
  context.fillRect(left, high, right - left, low - high);
  for (const ratio of [0.1, 0.3, 1, 3, 10]) {
    const [, row] = at(1, ratio);
    line(context, [[left, row], [right, row]], { colour: css(colours.grid), width: 1 });
    write(context, String(ratio), left - 5, row, { ...muted, align: "right" });
  }
  for (const sd of [0.05, 0.1, 0.3, 1, 3]) {
    write(context, String(sd), Math.min(at(sd, 1)[0], right), bottom + 11, muted);
  }
  write(context, "too large", left + 6, top + 9, aside);
  write(context, `± ${within} %`, left + 6, low + 9, aside);
  write(context, "too small", left + 6, bottom - 9, aside);
}

/** The present σ: a line, and a disc on the curve, or an arrow where the curve is off the panel. */
function markRatio(context, [column, row], { top, bottom, colours }) {
  line(context, [[column, top], [column, bottom]], { colour: css(colours.epistemic), width: 1 });
  const colour = css(colours.epistemic);
  if (row >= top && row <= bottom) return disc(context, column, row, colour, css(colours.paper));
  const [tip, back] = row < top ? [top, top + 9] : [bottom, bottom - 9];
  return area(context, [[column, tip], [column - 6, back], [column + 6, back]], colour);
}

/** The parts of the variance, exact and estimated, as two stacked bars. */
function drawBars(context, onto, { setting, found, colours }) {
  const { probability } = PREDICTIONS[setting.prediction];
  const bernoulli = probability ? found.point * (1 - found.point) : 0;
  const exact = [probability ? found.aleatoric : 0, found.variance];
  const estimated = [bernoulli, estimate(found)];
  const longest = Math.max(...[exact, estimated].map(([one, other]) => one + other));
  const end = probability ? endFor(longest) : 1.08 * longest;
  const top = 4;
  frame(onto, { x: [0, end], y: [0, 2] }, { left: 54, right: 12, top, bottom: 20 });
  context.font = `${FONT}px ${colours.sans}`;
  for (const value of ticks([0, end], 3)) {
    const [column, bottom] = onto.toPixel(value, 0);
    line(context, [[column, top], [column, bottom]], { colour: css(colours.grid), width: 1 });
    write(context, format(value), column, bottom + 11, { colour: css(colours.muted) });
  }
  drawBar(context, onto, { name: "exact", solid: true, middle: 1.5, values: exact, end, colours });
  drawBar(context, onto, { name: "estimate", middle: 0.5, values: estimated, end, colours });
}

/** The end of the axis for a probability. No exact total is longer than 0.25. */
const endFor = (longest) => [0.05, 0.1, 0.25].find((end) => longest <= 1.0001 * end) ?? 0.5;

/** One bar of [aleatoric, epistemic], solid or hatched; an arrow if it is longer than the axis. */
function drawBar(context, onto, { name, solid = false, middle, values, end, colours }) {
  const [[, top], [, bottom]] = [0.34, -0.34].map((half) => onto.toPixel(0, middle + half));
  const centre = (top + bottom) / 2;
  const edges = [0, values[0], values[0] + values[1]];
  const [start, seam, tip] = edges.map((value) => onto.toPixel(Math.min(end, value), 0)[0]);
  write(context, name, start - 6, centre, { colour: css(colours.ink), align: "right" });
  const fill = (left, right, colour) => {
    if (right === left) return;
    context.fillStyle = css(colour, solid ? 0.85 : 0.12);
    context.fillRect(left, top, right - left, bottom - top);
    if (!solid) hatch(context, { left, right, top, bottom }, css(colour), 5);
    Object.assign(context, { strokeStyle: css(colour), lineWidth: 1.5 });
    context.strokeRect(left, top, right - left, bottom - top);
  };
  fill(start, seam, colours.aleatoric);
  fill(seam, tip, colours.epistemic);
  if (edges[2] <= end) return;
  const head = [[tip + 9, centre], [tip, centre - 7], [tip, centre + 7]];
  area(context, head, css(colours.epistemic));
}

// ---------------------------------------------------------------- the figure

const START = { prediction: "logistic", x: 1.5, mean: 0.5, sd: 0.5 };
const EXAMPLES = {
  logistic: [
    ["It holds", { x: 1.5, mean: 0.5, sd: 0.2 }],
    ["Too large", { x: 1.5, mean: 0, sd: 2 }],
    ["Too small", { x: 1.5, mean: 2.5, sd: 1 }],
  ],
  cubic: [
    ["It holds", { x: 1, mean: 2, sd: 0.1 }],
    ["Too large", { x: 1, mean: 0, sd: 0.7 }],
    ["Flat tangent", { x: 1, mean: 1, sd: 0.5 }],
  ],
  sine: [
    ["It holds", { x: 1, mean: 0.4, sd: 0.15 }],
    ["Too large", { x: 1, mean: 0, sd: 1 }],
    ["Flat tangent", { x: 1, mean: 1, sd: 0.5 }],
  ],
};
const SWEEP = 7000; // milliseconds from the narrowest posterior to the widest
const STRIDE = 25; // values of σ at a press, for readers who want no motion

/**
 * @param {HTMLElement} host
 * @param {Partial<Setting>} options  the setting to start from
 * @param {(state: object) => void} [report]  gets the setting and its `Moments` after each change
 * @returns {{destroy: () => void}}
 */
export function mount(host, options, report = () => {}) {
  const setting = snapped({ ...START, ...options });
  const owner = stage(host, { label: "The delta method in one dimension" });
  const figure = { owner, setting, report, scene: sceneOf(setting), started: null };
  figure.planes = planesOf(figure);
  figure.controls = controlsOf(figure);
  figure.table = element("table", { className: "gnuq-delta-numbers" });
  arrange(figure);
  figure.handles = handlesOf(figure);
  showExamples(figure);
  change(figure, {});
  return { destroy: owner.destroy };
}

function arrange({ owner, planes: { main, ratio, bars }, controls: { choices, sliders }, table }) {
  const side = element("div", { className: "gnuq-delta-side" }, ratio.node, bars.node, table);
  main.node.append(
    legend(),
    controls(sliders.sd, choices.widen),
    controls(sliders.mean),
    controls(sliders.x),
  );
  owner.body.append(
    controls(choices.prediction, choices.examples),
    element("div", { className: "gnuq-delta" }, main.node, side),
  );
}

/** The setting with each number at the nearest value that its slider offers. */
function snapped(setting) {
  if (!(setting.prediction in PREDICTIONS)) {
    const known = Object.keys(PREDICTIONS).join(", ");
    throw new RangeError(`prediction: "${setting.prediction}" is unknown; choose one of ${known}.`);
  }
  const entries = Object.keys(VALUES).map((key) => {
    if (!Number.isFinite(setting[key])) throw new RangeError(`${key}: give a finite number.`);
    return [key, nearest(VALUES[key], setting[key])];
  });
  return { ...setting, ...Object.fromEntries(entries) };
}

/** What is drawn but for colours. Of the last scene the ratios are kept, unless they change. */
function sceneOf(setting, before) {
  const key = JSON.stringify({ ...setting, sd: 0 });
  const { ratios, reach } = before?.key === key ? before : widening(setting);
  return { key, setting, ratios, reach, found: moments(setting) };
}

function planesOf(figure) {
  const { owner } = figure;
  const make = (aspect, paint) =>
    plane(owner, {
      title: "", aspect, x: [0, 1], y: [0, 1],
      draw: (context, onto) =>
        paint(context, onto, { ...figure.scene, colours: palette(owner.node) }),
    });
  const main = make(1.12, (...scene) => {
    drawMain(...scene);
    placeHandles(figure);
  });
  return { main, ratio: make(2, drawRatio), bars: make(2.9, drawBars) };
}

/** The marks of the main plane: what is exact is solid, what comes from the tangent is dashed. */
function legend() {
  const entry = (kind, text) =>
    element("span", {}, element("i", { className: `gnuq-delta-${kind}` }), text);
  return element(
    "p",
    { className: "gnuq-delta-key" },
    entry("exact", "curve, exact density, mean ± sd"),
    entry("tangent", "tangent, its density, mean ± sd"),
    entry("error", "error, where θ is likely"),
  );
}

function controlsOf(figure) {
  const set = (name) => (value) => change(figure, { [name]: value });
  const choose = (value) => {
    change(figure, { prediction: value });
    showExamples(figure);
  };
  const bar = (name, label) =>
    slider({
      label, values: VALUES[name], value: figure.setting[name], say: format, onInput: set(name),
    });
  const options = Object.entries(PREDICTIONS).map(([value, { label }]) => ({ value, text: label }));
  const prediction = choice({
    label: "Prediction",
    options,
    value: figure.setting.prediction,
    onChoose: choose,
  });
  const group = (properties, ...nodes) =>
    element("div", { className: "gnuq-buttons", ...properties }, ...nodes);
  const examples = group({ role: "group", "aria-label": "Example" });
  const widen = button({ text: "Widen", onClick: () => widenOrStop(figure) });
  return {
    choices: {
      prediction: named("Prediction", prediction),
      examples: named("Example", examples),
      widen: group({}, widen),
    },
    sliders: {
      sd: bar("sd", "Spread σ"),
      mean: bar("mean", "Mean θ*"),
      x: bar("x", "Input x"),
    },
    prediction, examples, widen,
  };
}

/** Two handles on the main plane: θ* on the curve, and σ on the flank of the posterior. */
function handlesOf(figure) {
  const { owner, setting, planes } = figure;
  const handle = ({ key, label, read, place }) => {
    const point = { x: 0, y: 0, label: 0 };
    const movables = movable(owner, [planes.main], {
      points: [point],
      step: 0.1,
      label,
      name: () => `${label}: ${format(setting[key])}`,
      constrain: (theta) => place({ ...setting, [key]: read(theta) }),
      onChange: () => change(figure, { [key]: read(point.x) }),
    });
    return { point, place, refresh: movables.refresh };
  };
  const mean = {
    key: "mean",
    label: "Mean θ*",
    read: (theta) => nearest(VALUES.mean, theta),
    place: ({ prediction, x, mean }) => [mean, PREDICTIONS[prediction].value(x * mean)],
  };
  const sd = {
    key: "sd",
    label: "Spread σ",
    read: (theta) => nearest(VALUES.sd, theta - setting.mean),
    place: ({ mean, sd }) => [mean + sd, planes.main.toData(0, flank(parts(planes.main)))[1]],
  };
  return [handle(mean), handle(sd)];
}

/** The height of the posterior's density one standard deviation from its mean, in pixels. */
const flank = ({ floor, ceiling }) => floor - (floor - ceiling) * Math.exp(-0.5);

function placeHandles({ handles, setting }) {
  for (const { point, place, refresh } of handles) {
    [point.x, point.y] = place(setting);
    refresh();
  }
}

/** Take over a part of the setting and show it; the sweep of `widen` ends. */
function change(figure, part) {
  figure.started = null;
  Object.assign(figure.setting, part);
  figure.owner.schedule((time) => show(figure, time));
}

/** Show the present setting; while σ sweeps, the next one follows. */
function show(figure, time) {
  const { owner, setting, planes } = figure;
  if (figure.started !== null) sweep(figure, time);
  const scene = (figure.scene = sceneOf(setting, figure.scene));
  for (const onto of Object.values(planes)) onto.redraw();
  showControls(figure);
  figure.table.replaceChildren(...tableOf(scene.found, PREDICTIONS[setting.prediction]));
  owner.describe(sentences(setting, scene.found, scene.reach));
  figure.report({ ...setting, ...scene.found });
}

function sweep(figure, time) {
  const last = VALUES.sd.length - 1;
  figure.started ||= time;
  const at = Math.min(last, Math.floor((last * (time - figure.started)) / SWEEP));
  figure.setting.sd = VALUES.sd[at];
  if (at === last) figure.started = null;
  else figure.owner.schedule((next) => show(figure, next));
}

/** Let σ grow from the least to the greatest, or stop; without motion, make it larger at once. */
function widenOrStop(figure) {
  if (figure.owner.reducedMotion()) {
    const at = VALUES.sd.indexOf(figure.setting.sd) + STRIDE;
    return change(figure, { sd: VALUES.sd[at < VALUES.sd.length ? at : 0] });
  }
  const stopped = figure.started === null;
  change(figure, {});
  if (stopped) figure.started = 0;
}

function showControls({ setting, started, planes, controls: { choices, sliders, ...shown } }) {
  const { label, formula, symbol, probability } = PREDICTIONS[setting.prediction];
  for (const [name, node] of Object.entries(sliders)) node.show(setting[name]);
  shown.prediction.show(setting.prediction);
  shown.widen.textContent = started === null ? "Widen" : "Stop";
  planes.main.heading.textContent = `${label}: ${formula}`;
  planes.ratio.heading.textContent = `g²σ² / Var[${symbol}] as σ grows`;
  planes.bars.heading.textContent = probability
    ? "Variance of the label, by source"
    : "Variance of the prediction";
}

function showExamples(figure) {
  const nodes = EXAMPLES[figure.setting.prediction].map(([text, part]) =>
    button({ text, onClick: () => change(figure, snapped({ ...figure.setting, ...part })) }));
  figure.controls.examples.replaceChildren(...nodes);
}

/** The numbers as rows of a table; the mark before a name is the colour that it has in the bars. */
function tableOf(found, prediction) {
  const head = (text) => element("th", { scope: "col" }, text);
  const cell = (symbol, value) =>
    element("td", {}, element("span", {}, symbol), " ", format(value));
  const rows = numbers(found, prediction).map(([name, left, exact, right, estimated, hue]) =>
    element("tr", {}, element("th", { scope: "row", className: hue }, name),
      cell(left, exact), cell(right, estimated)));
  const top = element("tr", {}, element("td"), head("exact"), head("estimate"));
  return [element("thead", {}, top), element("tbody", {}, ...rows)];
}

export default widget(mount);
