/**
 * Small multilayer perceptrons in float64: probabilities, exact gradient norms of them, training.
 *
 * Parameters are one flat Float64Array in the order of torch's `nn.Sequential(Linear, …)
 * .parameters()`: weight (fan-out × fan-in, row-major), bias, layer by layer. Inputs are row-major,
 * n × inputs. One output is a logit, whose probability is that of class 1; K outputs are a softmax.
 *
 * The squared norm needs no gradient of the size of the network: a layer with inputs a and output
 * gradients δ has the weight gradient δaᵀ, so it adds ‖δ‖²(‖a‖² + 1), the 1 for the bias.
 */

const BLOCK = 64; // inputs at a time: activations stay in the cache; a multiple of 4 for `multiply`

/**
 * @typedef {{fanIn: number, fanOut: number, weight: number, bias: number}} Layer
 *   offsets of weight and bias in the flat parameters
 * @typedef {{inputs: number, widths: number[], outputs: number, classes: number,
 *   activation: string, layers: Layer[], parameters: number}} Spec
 * @typedef {{x: Float64Array, labels: ArrayLike<number>}} Data  n × inputs; n class indices
 */

// ---------------------------------------------------------------- architecture and start

/**
 * @param {{inputs?: number, widths?: number[], outputs?: number, activation?: string}} choice
 * @returns {Readonly<Spec>} with the number of `parameters`; `classes` is 1 for one logit
 */
export function spec({ inputs = 2, widths = [8, 8], outputs = 1, activation = "tanh" } = {}) {
  if (!(activation in ACTIVATIONS)) {
    const known = Object.keys(ACTIVATIONS).join(", ");
    throw new RangeError(`activation: "${activation}" is unknown; choose one of ${known}.`);
  }
  const sizes = [inputs, ...widths, outputs];
  if (!sizes.every((size) => Number.isInteger(size) && size > 0)) {
    throw new RangeError("inputs, widths, outputs: give positive whole numbers.");
  }
  const layers = [];
  let parameters = 0;
  for (let at = 1; at < sizes.length; at++) {
    const [fanIn, fanOut] = [sizes[at - 1], sizes[at]];
    const bias = parameters + fanIn * fanOut;
    layers.push(Object.freeze({ fanIn, fanOut, weight: parameters, bias }));
    parameters = bias + fanOut;
  }
  const shape = { inputs, widths: Object.freeze([...widths]), outputs, classes: outputs };
  return Object.freeze({ ...shape, activation, layers: Object.freeze(layers), parameters });
}

/**
 * Uniform numbers in [0, 1) from a seed (mulberry32).
 * @param {number} seed
 * @returns {() => number}
 */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Standard normal numbers from uniform ones (Box–Muller).
 * @param {() => number} uniform
 * @returns {() => number}
 */
export function normal(uniform) {
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/**
 * Parameters to start from: weights N(0, 1/fan-in), biases 0.
 * @param {Spec} spec
 * @param {number} seed
 * @returns {Float64Array}
 */
export function initial(spec, seed) {
  const draw = normal(random(seed));
  const theta = new Float64Array(spec.parameters);
  for (const { fanIn, weight, bias } of spec.layers) {
    for (let at = weight; at < bias; at++) theta[at] = draw() / Math.sqrt(fanIn);
  }
  return theta;
}

// ---------------------------------------------------------------- activations

const NODES = 64; // table entries per unit of z: the nearest is at most 1/128 away
const REACH = { tanh: 20, gelu: 9 }; // beyond it tanh is ±1 and the normal distribution 0 or 1

/** Each writes over `values`, the units before it, and leaves its derivative in `slopes`. */
const ACTIVATIONS = {
  tanh(values, slopes, count) {
    const table = tanhTable();
    const middle = REACH.tanh * NODES;
    for (let at = 0; at < count; at++) {
      const z = Math.max(-REACH.tanh, Math.min(REACH.tanh, values[at]));
      const node = Math.round(z * NODES);
      const step = z - node / NODES;
      const square = step * step;
      const small = step * (1 - square * (1 / 3 - square * (2 / 15)));
      const near = table[node + middle];
      const value = (near + small) / (1 + near * small); // the addition theorem
      values[at] = value;
      slopes[at] = 1 - value * value;
    }
  },
  relu(values, slopes, count) {
    for (let at = 0; at < count; at++) {
      slopes[at] = values[at] > 0 ? 1 : 0;
      values[at] *= slopes[at];
    }
  },
  /** z Φ(z); Φ and its density φ by Taylor's polynomials from the nearest node. */
  gelu(values, slopes, count) {
    const { below, density } = normalTables();
    const middle = REACH.gelu * NODES;
    for (let at = 0; at < count; at++) {
      const z = values[at];
      const node = Math.round(Math.max(-REACH.gelu, Math.min(REACH.gelu, z)) * NODES);
      const x = node / NODES;
      const step = z - x;
      const square = x * x;
      const fourth = (x * (3 - square)) / 24 + (((square - 6) * square + 3) * step) / 120;
      const growth = 1 + step * (-x / 2 + step * ((square - 1) / 6 + step * fourth));
      const inside = Math.abs(step) < 0.5;
      const phi = density[node + middle];
      const cdf = inside ? below[node + middle] + phi * step * growth : Number(z > 0);
      values[at] = z * cdf;
      slopes[at] = inside ? cdf + z * phi * smallExp(-step * (x + step / 2)) : cdf;
    }
  },
};

/** e^t for |t| < 0.08. */
const smallExp = (t) =>
  1 + t * (1 + (t / 2) * (1 + (t / 3) * (1 + (t / 4) * (1 + (t / 5) * (1 + t / 6)))));

const once = (make) => {
  let made;
  return () => (made ??= make());
};

const tableOf = (reach, value) =>
  Float64Array.from({ length: 2 * reach * NODES + 1 }, (_, at) => value(at / NODES - reach));

const tanhTable = once(() => tableOf(REACH.tanh, Math.tanh));

const normalTables = once(() => ({
  density: tableOf(REACH.gelu, normalDensity),
  below: tableOf(REACH.gelu, (z) => (z > 0 ? 1 - lowerTail(z) : lowerTail(-z))),
}));

const normalDensity = (z) => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);

/** Φ(−z) for z ≥ 0: a series near 0, Laplace's continued fraction far out. */
function lowerTail(z) {
  if (z < 3) {
    let [term, sum] = [z, z];
    for (let odd = 3; term > 1e-18; odd += 2) {
      term *= (z * z) / odd;
      sum += term;
    }
    return 0.5 - normalDensity(z) * sum;
  }
  let fraction = z;
  for (let level = 120; level >= 1; level--) fraction = z + level / fraction;
  return normalDensity(z) / fraction;
}

// ---------------------------------------------------------------- one block of inputs

const workspaces = new WeakMap(); // by spec: a figure calls often, and must not allocate each time

function workspace(spec) {
  let kept = workspaces.get(spec);
  if (!kept) {
    const block = (units) => new Float64Array(BLOCK * units);
    kept = {
      inputs: spec.layers.map(({ fanIn }) => block(fanIn)), // of each layer
      slopes: spec.layers.map(({ fanIn }) => block(fanIn)), // of the units that feed each layer
      deltas: spec.layers.map(({ fanOut }) => block(fanOut)), // ∂(objective)/∂(layer outputs)
      transposed: spec.layers.map(({ fanIn, fanOut }) => new Float64Array(fanIn * fanOut)),
      sizes: spec.layers.map(() => block(1)), // ‖a‖² + 1
      logits: block(spec.outputs),
      probabilities: block(spec.classes),
      none: new Float64Array(Math.max(...spec.layers.map(({ fanIn }) => fanIn))), // no bias
    };
    workspaces.set(spec, kept);
  }
  return kept;
}

/**
 * out = a wᵀ + bias, in tiles of four rows and two units. (An odd last unit is computed twice.)
 * @param {Float64Array} out    rows × outer
 * @param {Float64Array} a      rows × inner
 * @param {Float64Array} w      outer × inner, from `offset`
 * @param {Float64Array} biases outer, from `biasOffset`
 */
function multiply(out, a, w, offset, biases, biasOffset, rows, inner, outer) {
  for (let row = 0; row < rows; row += 4) {
    const a0 = row * inner;
    const a1 = a0 + inner;
    const a2 = a1 + inner;
    const a3 = a2 + inner;
    for (let unit = 0; unit < outer; unit += 2) {
      const next = unit + 1 < outer ? unit + 1 : unit;
      const from = offset + unit * inner;
      const fromNext = offset + next * inner;
      let sum0 = biases[biasOffset + unit];
      let next0 = biases[biasOffset + next];
      let sum1 = sum0;
      let sum2 = sum0;
      let sum3 = sum0;
      let next1 = next0;
      let next2 = next0;
      let next3 = next0;
      for (let at = 0; at < inner; at++) {
        const weight = w[from + at];
        const weightNext = w[fromNext + at];
        const unit0 = a[a0 + at];
        const unit1 = a[a1 + at];
        const unit2 = a[a2 + at];
        const unit3 = a[a3 + at];
        sum0 += weight * unit0;
        sum1 += weight * unit1;
        sum2 += weight * unit2;
        sum3 += weight * unit3;
        next0 += weightNext * unit0;
        next1 += weightNext * unit1;
        next2 += weightNext * unit2;
        next3 += weightNext * unit3;
      }
      const to = row * outer;
      out[to + unit] = sum0;
      out[to + next] = next0;
      out[to + outer + unit] = sum1;
      out[to + outer + next] = next1;
      out[to + 2 * outer + unit] = sum2;
      out[to + 2 * outer + next] = next2;
      out[to + 3 * outer + unit] = sum3;
      out[to + 3 * outer + next] = next3;
    }
  }
}

/** Activations, logits and probabilities of `rows` inputs, the first of them `from`. */
function forward(spec, work, theta, x, from, rows) {
  const first = work.inputs[0];
  const count = rows * spec.inputs;
  for (let at = 0; at < count; at++) first[at] = x[from * spec.inputs + at];
  const last = spec.layers.length - 1;
  for (let index = 0; index <= last; index++) {
    const { fanIn, fanOut, weight, bias } = spec.layers[index];
    const out = index === last ? work.logits : work.inputs[index + 1];
    multiply(out, work.inputs[index], theta, weight, theta, bias, rows, fanIn, fanOut);
    if (index < last) ACTIVATIONS[spec.activation](out, work.slopes[index + 1], rows * fanOut);
  }
  link(spec, work, rows);
}

function link(spec, { logits, probabilities }, rows) {
  if (spec.outputs === 1) {
    for (let row = 0; row < rows; row++) probabilities[row] = 1 / (1 + Math.exp(-logits[row]));
    return;
  }
  for (let row = 0; row < rows; row++) {
    const start = row * spec.outputs;
    const end = start + spec.outputs;
    let top = -Infinity;
    let sum = 0;
    for (let at = start; at < end; at++) if (logits[at] > top) top = logits[at];
    for (let at = start; at < end; at++) sum += probabilities[at] = Math.exp(logits[at] - top);
    for (let at = start; at < end; at++) probabilities[at] /= sum;
  }
}

/** The transposed weights, for `backward`; once for all blocks. */
function transpose(spec, work, theta) {
  for (let index = 1; index < spec.layers.length; index++) {
    const { fanIn, fanOut, weight } = spec.layers[index];
    const to = work.transposed[index];
    for (let row = 0; row < fanOut; row++) {
      for (let at = 0; at < fanIn; at++) to[at * fanOut + row] = theta[weight + row * fanIn + at];
    }
  }
}

/** From the gradients at the logits, already in the last `deltas`, to those at every layer. */
function backward(spec, work, rows) {
  for (let index = spec.layers.length - 1; index > 0; index--) {
    const { fanIn, fanOut } = spec.layers[index];
    const to = work.deltas[index - 1];
    const slopes = work.slopes[index];
    multiply(to, work.deltas[index], work.transposed[index], 0, work.none, 0, rows, fanOut, fanIn);
    for (let at = 0; at < rows * fanIn; at++) to[at] *= slopes[at];
  }
}

/** ∂p_k/∂(logits) into the last `deltas`. */
function seedProbability(spec, { logits, probabilities, deltas }, rows, chosen) {
  const to = deltas.at(-1);
  if (spec.outputs === 1) {
    // 1 − p without cancellation
    for (let row = 0; row < rows; row++) to[row] = probabilities[row] / (1 + Math.exp(logits[row]));
    return;
  }
  for (let row = 0; row < rows; row++) {
    const start = row * spec.outputs;
    const p = probabilities[start + chosen];
    let others = 0;
    for (let at = 0; at < spec.outputs; at++) {
      if (at === chosen) continue;
      others += probabilities[start + at];
      to[start + at] = -p * probabilities[start + at];
    }
    to[start + chosen] = p * others;
  }
}

/** Call `visit(from, rows)` for every block of `x`, after the forward pass on it. */
function eachBlock(spec, work, theta, x, visit) {
  const count = x.length / spec.inputs;
  for (let from = 0; from < count; from += BLOCK) {
    const rows = Math.min(BLOCK, count - from);
    forward(spec, work, theta, x, from, rows);
    visit(from, rows);
  }
}

// ---------------------------------------------------------------- probabilities and gradients

const table = (spec, x) => new Float64Array((x.length / spec.inputs) * spec.classes);

/**
 * @param {Spec} spec
 * @param {Float64Array} theta
 * @param {Float64Array} x      n × inputs
 * @param {Float64Array} [out]  n × classes; made if omitted
 * @returns {Float64Array} class probabilities; for one logit the probability of class 1
 */
export function probabilities(spec, theta, x, out = table(spec, x)) {
  const work = workspace(spec);
  eachBlock(spec, work, theta, x, (from, rows) => keepProbabilities(spec, work, from, rows, out));
  return out;
}

function keepProbabilities({ classes }, { probabilities }, from, rows, out) {
  const to = from * classes;
  for (let at = 0; at < rows * classes; at++) out[to + at] = probabilities[at];
}

/**
 * Eq. (4): ‖∇_θ p_k‖² of every input and class, exact.
 * @param {Spec} spec
 * @param {Float64Array} theta
 * @param {Float64Array} x      n × inputs
 * @param {Float64Array} [out]     n × classes; made if omitted
 * @param {Float64Array} [values]  n × classes: receives the probabilities, known on the way
 * @returns {Float64Array}
 */
export function squaredNorms(spec, theta, x, out = table(spec, x), values = undefined) {
  const work = workspace(spec);
  transpose(spec, work, theta);
  eachBlock(spec, work, theta, x, (from, rows) => {
    if (values) keepProbabilities(spec, work, from, rows, values);
    measureInputs(spec, work, rows);
    for (let chosen = 0; chosen < spec.classes; chosen++) {
      seedProbability(spec, work, rows, chosen);
      backward(spec, work, rows);
      addNorms(spec, work, rows, out, from * spec.classes + chosen);
    }
  });
  return out;
}

function measureInputs(spec, work, rows) {
  spec.layers.forEach(({ fanIn }, index) => {
    const [units, sizes] = [work.inputs[index], work.sizes[index]];
    for (let row = 0, at = 0; row < rows; row++) {
      let sum = 1;
      for (const end = at + fanIn; at < end; at++) sum += units[at] * units[at];
      sizes[row] = sum;
    }
  });
}

function addNorms(spec, work, rows, out, first) {
  for (let row = 0; row < rows; row++) out[first + row * spec.classes] = 0;
  spec.layers.forEach(({ fanOut }, index) => {
    const [deltas, sizes] = [work.deltas[index], work.sizes[index]];
    for (let row = 0, at = 0; row < rows; row++) {
      let sum = 0;
      for (const end = at + fanOut; at < end; at++) sum += deltas[at] * deltas[at];
      out[first + row * spec.classes] += sum * sizes[row];
    }
  });
}

/**
 * ∇_θ p_k of every input and class, in full: for few inputs or few parameters.
 * @param {Spec} spec
 * @param {Float64Array} theta
 * @param {Float64Array} x  n × inputs
 * @returns {Float64Array} n × classes × parameters
 */
export function gradients(spec, theta, x) {
  const work = workspace(spec);
  const { classes, parameters } = spec;
  const out = new Float64Array((x.length / spec.inputs) * classes * parameters);
  transpose(spec, work, theta);
  eachBlock(spec, work, theta, x, (from, rows) => {
    for (let chosen = 0; chosen < classes; chosen++) {
      seedProbability(spec, work, rows, chosen);
      backward(spec, work, rows);
      for (let row = 0; row < rows; row++) {
        addOuter(spec, work, row, out, ((from + row) * classes + chosen) * parameters);
      }
    }
  });
  return out;
}

/** Add the gradient that input `row` contributes to the flat gradient that starts at `offset`. */
function addOuter(spec, work, row, out, offset) {
  for (let index = 0; index < spec.layers.length; index++) {
    const { fanIn, fanOut, weight, bias } = spec.layers[index];
    const [units, deltas] = [work.inputs[index], work.deltas[index]];
    for (let unit = 0; unit < fanOut; unit++) {
      const delta = deltas[row * fanOut + unit];
      const [to, from] = [offset + weight + unit * fanIn, row * fanIn];
      for (let at = 0; at < fanIn; at++) out[to + at] += delta * units[from + at];
      out[offset + bias + unit] += delta;
    }
  }
}

// ---------------------------------------------------------------- training

/**
 * Mean cross-entropy (nats) + decay/2 · ‖θ‖². It is 1/n of the negative log posterior whose prior
 * precision is n · decay.
 * @param {Spec} spec
 * @param {Float64Array} theta
 * @param {Data} data
 * @param {number} decay
 * @param {Float64Array} [gradient]  written over; made if omitted
 * @returns {{value: number, gradient: Float64Array}}
 */
export function loss(spec, theta, data, decay, gradient = new Float64Array(spec.parameters)) {
  const work = workspace(spec);
  const count = data.x.length / spec.inputs;
  let [entropy, square] = [0, 0];
  for (let at = 0; at < theta.length; at++) {
    square += theta[at] * theta[at];
    gradient[at] = decay * theta[at];
  }
  transpose(spec, work, theta);
  eachBlock(spec, work, theta, data.x, (from, rows) => {
    entropy += seedLoss(spec, work, data.labels, from, rows, count);
    backward(spec, work, rows);
    for (let row = 0; row < rows; row++) addOuter(spec, work, row, gradient, 0);
  });
  return { value: entropy / count + (decay / 2) * square, gradient };
}

/** ∂(mean cross-entropy)/∂(logits) into the last `deltas`; returns the block's summed entropy. */
function seedLoss(spec, { logits, probabilities, deltas }, labels, from, rows, count) {
  const to = deltas.at(-1);
  let entropy = 0;
  for (let row = 0; row < rows; row++) {
    const label = labels[from + row];
    if (spec.outputs === 1) {
      const logit = label ? logits[row] : -logits[row];
      entropy += Math.max(-logit, 0) + Math.log1p(Math.exp(-Math.abs(logit)));
      to[row] = (probabilities[row] - label) / count;
      continue;
    }
    const start = row * spec.outputs;
    // log p without the underflow of p
    let [top, sum] = [-Infinity, 0];
    for (let at = 0; at < spec.outputs; at++) top = Math.max(top, logits[start + at]);
    for (let at = 0; at < spec.outputs; at++) {
      sum += Math.exp(logits[start + at] - top);
      to[start + at] = (probabilities[start + at] - (at === label ? 1 : 0)) / count;
    }
    entropy += top + Math.log(sum) - logits[start + label];
  }
  return entropy;
}

/**
 * Adam that keeps its moments, so that training goes on from where it is when the data change. The
 * step size halves every `halving` steps since `wake()`, so that it settles on the optimum.
 */
export class Trainer {
  /**
   * @param {Spec} spec
   * @param {Float64Array} theta  where to start; copied
   * @param {{rate?: number, halving?: number, tolerance?: number}} [settings]  `tolerance` is the
   *   gradient norm at which training is over
   */
  constructor(spec, theta, { rate = 0.05, halving = 150, tolerance = 3e-4 } = {}) {
    Object.assign(this, { spec, rate, halving, tolerance });
    this.theta = Float64Array.from(theta);
    this.gradient = new Float64Array(spec.parameters);
    this.first = new Float64Array(spec.parameters);
    this.second = new Float64Array(spec.parameters);
    this.steps = 0;
    this.wake();
  }

  /** The data have changed: step as boldly as at the start. */
  wake() {
    this.since = 0;
    this.converged = false;
    this.loss = NaN;
    this.gradientNorm = NaN;
  }

  /**
   * Take up to `steps` steps; stop when the gradient is small, or the steps have become so.
   * @param {Data} data
   * @param {{decay: number, steps: number}} settings
   */
  advance(data, { decay, steps }) {
    for (let step = 0; step < steps && !this.converged; step++) {
      this.loss = loss(this.spec, this.theta, data, decay, this.gradient).value;
      this.gradientNorm = norm(this.gradient);
      const rate = this.rate * 0.5 ** (this.since / this.halving);
      this.converged = this.gradientNorm < this.tolerance || rate < 1e-3 * this.rate;
      if (!this.converged) this.update(rate);
    }
  }

  update(rate) {
    const { theta, gradient, first, second } = this;
    this.steps += 1;
    this.since += 1;
    const [keep, keepSquare] = [0.9, 0.99];
    const size = rate / (1 - keep ** this.steps);
    const unbiased = 1 / (1 - keepSquare ** this.steps);
    for (let at = 0; at < theta.length; at++) {
      const slope = gradient[at];
      first[at] = keep * first[at] + (1 - keep) * slope;
      second[at] = keepSquare * second[at] + (1 - keepSquare) * slope * slope;
      theta[at] -= (size * first[at]) / (Math.sqrt(second[at] * unbiased) + 1e-8);
    }
  }
}

function norm(vector) {
  let sum = 0;
  for (let at = 0; at < vector.length; at++) sum += vector[at] * vector[at];
  return Math.sqrt(sum);
}

/**
 * Train from `theta` in one go.
 * @param {Spec} spec
 * @param {Float64Array} theta
 * @param {Data} data
 * @param {{decay: number, steps?: number, rate?: number}} settings
 * @returns {Float64Array} the trained parameters
 */
export function train(spec, theta, data, { decay, steps = 2000, rate = 0.05 }) {
  const trainer = new Trainer(spec, theta, { rate });
  trainer.advance(data, { decay, steps });
  return trainer.theta;
}

// ---------------------------------------------------------------- comparing maps

/** Ranks from 0, ties sharing their mean. */
function ranks(values) {
  const order = Uint32Array.from(values, (_, at) => at).sort((a, b) => values[a] - values[b]);
  const out = new Float64Array(values.length);
  for (let start = 0, end; start < order.length; start = end) {
    end = start + 1;
    while (end < order.length && values[order[end]] === values[order[start]]) end++;
    for (let at = start; at < end; at++) out[order[at]] = (start + end - 1) / 2;
  }
  return out;
}

/**
 * Pearson's correlation of two maps; NaN where one is flat.
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
export function correlation(a, b) {
  const mean = (values) => Array.prototype.reduce.call(values, (x, y) => x + y, 0) / values.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let at = 0; at < a.length; at++) {
    const [x, y] = [a[at] - meanA, b[at] - meanB];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / Math.sqrt(aa * bb);
}

/** Spearman's: that of the ranks. */
export const rankCorrelation = (a, b) => correlation(ranks(a), ranks(b));
