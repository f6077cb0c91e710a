/**
 * Drag the data: move the points of two or three classes and watch a network learn them.
 *
 * One network shows its squared gradient norm and its Bernoulli variance; five others, trained
 * likewise from other starts, show how much they disagree. They train while the reader drags, from
 * where they are, a few steps a frame, and stop once they have converged. Each frame brings one
 * member of the ensemble up to date, so a frame costs two networks and not six.
 */
import {
  Trainer,
  initial,
  normal,
  probabilities,
  random,
  rankCorrelation,
  spec,
  squaredNorms,
} from "./network.js";
import {
  button,
  cellCentres,
  choice,
  contour,
  controls,
  css,
  element,
  format,
  mapPainter,
  movable,
  named,
  palette,
  plane,
  ramp,
  showScale,
  slider,
  stage,
  widget,
} from "./stage.js";

const SIDE = 64; // cells of a map's side
const CELLS = SIDE * SIDE;
const MEMBERS = 5;
// Milliseconds of training a frame: few while the reader's hand moves, more once it rests.
const TRAINING = { moving: 5, resting: 16 };
const REST = 200; // milliseconds without a change
const REACH = 2.4; // data units from the middle to the edge
const DOMAIN = { x: [-REACH, REACH], y: [-REACH, REACH] };
const POINTS = 36;
const FEWEST = 4;
const AGREED = 1e-6; // a variance below it is what training left over, not disagreement
const NEW_PLACE = [0.3, 0.3];

const WIDTHS = [2, 4, 8, 16, 32];
const DECAYS = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1];
const ACTIVATIONS = ["tanh", "relu", "gelu"];
const SUM = -1; // of all classes, as the choice of what to show

const START = {
  preset: "moons",
  classes: 2,
  width: 16,
  decay: 0.001,
  activation: "tanh",
  seed: 0,
};

// ---------------------------------------------------------------- data

const onCircle = (angle, radius) => [radius * Math.cos(angle), radius * Math.sin(angle)];

/** Where point `index` of class `label` lies, before noise; `share` runs from 0 to 1 in a class. */
const PRESETS = {
  moons: {
    text: "Moons",
    noise: 0.16,
    place(label, share) {
      const [x, y] = onCircle(Math.PI * share, 1.2);
      return [[x - 0.6, y - 0.3], [x + 0.6, 0.3 - y], [x, y + 1.1]][label];
    },
  },
  xor: {
    text: "XOR",
    noise: 0.3,
    place(label, share, index) {
      const side = index % 2 ? 1 : -1;
      return [[side, side], [side, -side], [0, 0]][label].map((value) => 1.3 * value);
    },
  },
  overlap: {
    text: "Overlap",
    noise: 0.3,
    place: (label, share, index, classes) =>
      index % 3 ? [-1.1, 0] : [1.3, 2.4 * (label / (classes - 1) - 0.5)],
  },
  rings: {
    text: "Rings",
    noise: 0.12,
    place: (label, share) => onCircle(2 * Math.PI * share, 0.5 + 0.8 * label),
  },
  clouds: {
    text: "Clouds",
    noise: 0.5,
    place: (label, share, index, classes) =>
      onCircle(Math.PI * (0.25 + (2 * label) / classes), 1.3),
  },
};

/** @returns {{x: number, y: number, label: number}[]} */
function draw(preset, classes, seed) {
  const { place, noise } = PRESETS[preset];
  const gaussian = normal(random(seed + 1));
  const count = Math.round(POINTS / classes);
  const inside = (value) => Math.max(-REACH, Math.min(REACH, value + noise * gaussian()));
  return Array.from({ length: count * classes }, (_, at) => {
    const [label, index] = [at % classes, Math.floor(at / classes)];
    const [x, y] = place(label, (index + 0.5) / count, index, classes).map(inside);
    return { x, y, label };
  });
}

/** The points as the network takes them. */
const asData = (points) => ({
  x: Float64Array.from(points.flatMap(({ x, y }) => [x, y])),
  labels: Uint8Array.from(points, ({ label }) => label),
});

// ---------------------------------------------------------------- the networks and their maps

/** Six networks on the same data, and their maps; knows nothing of the page. */
class Networks {
  constructor({ classes, width, activation, decay, seed }, data) {
    const outputs = classes === 2 ? 1 : classes;
    this.spec = spec({ inputs: 2, widths: [width, width], outputs, activation });
    const begin = (start) => new Trainer(this.spec, initial(this.spec, start));
    this.point = begin(100 * seed);
    this.members = Array.from({ length: MEMBERS }, (_, at) => begin(100 * seed + at + 1));
    this.cells = cellCentres(DOMAIN, SIDE);
    const map = () => new Float64Array(CELLS * this.spec.classes);
    Object.assign(this, { data, decay, turn: 0, norms: map(), probabilities: map() });
    this.memberProbabilities = this.members.map(map);
    this.members.forEach((_, at) => this.see(at));
  }

  /** The data have changed. */
  wake() {
    for (const network of [this.point, ...this.members]) network.wake();
  }

  get converged() {
    return this.point.converged && this.members.every((member) => member.converged);
  }

  /**
   * One frame's work: the network that is shown, and the next member that has not converged.
   * @param {number} time  milliseconds to train, shared by the two
   */
  advance(time) {
    const order = this.members.map((_, at) => (this.turn + at) % MEMBERS);
    const next = order.find((at) => !this.members[at].converged);
    const both = next !== undefined && !this.point.converged;
    const share = both ? time / 2 : time;
    if (!this.point.converged) {
      this.trainFor(this.point, share);
      squaredNorms(this.spec, this.point.theta, this.cells, this.norms, this.probabilities);
    }
    if (next === undefined) return;
    this.turn = (next + 1) % MEMBERS;
    this.trainFor(this.members[next], share);
    this.see(next);
  }

  trainFor(network, time) {
    const end = performance.now() + time;
    do network.advance(this.data, { decay: this.decay, steps: 4 });
    while (!network.converged && performance.now() < end);
  }

  see(at) {
    const { theta } = this.members[at];
    probabilities(this.spec, theta, this.cells, this.memberProbabilities[at]);
  }

  /** Fill three maps for one class, or summed over all. */
  fill(shown, { epistemic, aleatoric, ensemble }) {
    const { classes } = this.spec;
    const [first, last] = shown === SUM || classes === 1 ? [0, classes] : [shown, shown + 1];
    for (let cell = 0; cell < CELLS; cell++) {
      let norm = 0;
      let bernoulli = 0;
      let variance = 0;
      for (let at = cell * classes + first; at < cell * classes + last; at++) {
        const p = this.probabilities[at];
        norm += this.norms[at];
        bernoulli += p * (1 - p);
        variance += varianceAt(this.memberProbabilities, at);
      }
      epistemic[cell] = norm;
      aleatoric[cell] = bernoulli;
      ensemble[cell] = variance;
    }
  }

  /** How far class `label` leads the others at every cell: the boundary is where it is 0. */
  lead(label, out) {
    const { classes } = this.spec;
    for (let cell = 0; cell < CELLS; cell++) {
      let other = classes === 1 ? 1 - this.probabilities[cell] : 0;
      for (let k = 0; k < classes; k++) {
        if (k !== label) other = Math.max(other, this.probabilities[cell * classes + k]);
      }
      out[cell] = this.probabilities[cell * classes + label] - other;
    }
    return out;
  }
}

/** Over the members (divided by their number, as gnuq does). */
function varianceAt(members, at) {
  let sum = 0;
  let square = 0;
  for (let member = 0; member < MEMBERS; member++) sum += members[member][at];
  for (let member = 0; member < MEMBERS; member++) {
    square += (members[member][at] - sum / MEMBERS) ** 2;
  }
  return square / MEMBERS;
}

// ---------------------------------------------------------------- words

function largest(map) {
  let best = 0;
  for (let cell = 1; cell < map.length; cell++) if (map[cell] > map[best]) best = cell;
  return best;
}

/** What the three maps show now, in a few sentences. */
function summary({ networks, maps, points, settings }) {
  const { cells, point } = networks;
  const top = largest(maps.epistemic);
  const [x, y] = [cells[2 * top], cells[2 * top + 1]];
  const away = Math.min(...points.map((each) => Math.hypot(each.x - x, each.y - y)));
  const place = `(${x.toFixed(1)}, ${y.toFixed(1)})`;
  return (
    `${points.length} points of ${settings.classes} classes; ` +
    `${networks.spec.parameters} parameters; training loss with its penalty ` +
    `${format(point.loss)}. The squared gradient norm is largest, ` +
    `${format(maps.epistemic[top])}, at ${place}, ${away.toFixed(1)} from the nearest point. ` +
    comparison(maps)
  ).replaceAll("-", "−");
}

/** How well the two estimates order the cells as the ensemble does, if it has something to say. */
function comparison({ epistemic, aleatoric, ensemble }) {
  const most = ensemble[largest(ensemble)];
  if (most < AGREED) {
    return (
      `The ${MEMBERS} networks agree everywhere (variance at most ${format(most)}), ` +
      "so there is nothing to compare with."
    );
  }
  const agreement = (map) => rankCorrelation(map, ensemble).toFixed(2);
  return (
    `Rank correlation with the variance of the ${MEMBERS} networks: ` +
    `${agreement(epistemic)} for the norm, ${agreement(aleatoric)} for p(1 − p).`
  );
}

/** What a kernel gets: plain JSON. */
const report = ({ networks, points, settings }) => ({
  ...settings,
  points: points.map(({ x, y, label }) => [x, y, label]),
  loss: networks.point.loss,
  converged: networks.converged,
  theta: [...networks.point.theta],
});

// ---------------------------------------------------------------- the page

/**
 * @param {HTMLElement} host
 * @param {Partial<typeof START>} options
 * @param {(state: object) => void} tell  gets the state when training has converged
 * @returns {{destroy: () => void}}
 */
export function mount(host, options = {}, tell = () => {}) {
  const settings = { ...START, ...options };
  const self = { settings, shown: SUM, tell };
  self.owner = stage(host, { label: "Drag the data" });
  self.owner.onTheme(() => (self.colours = undefined)); // before the planes redraw
  self.points = draw(settings.preset, settings.classes, settings.seed);
  self.maps = Object.fromEntries(
    ["epistemic", "aleatoric", "ensemble"].map((name) => [name, new Float64Array(CELLS)]),
  );
  self.lead = new Float64Array(CELLS);
  buildPlanes(self);
  buildControls(self);
  restart(self);
  return { destroy: self.owner.destroy };
}

const HUES = { epistemic: "epistemic", aleatoric: "aleatoric", ensemble: "reference" };

function buildPlanes(self) {
  const row = element("div", { className: "gnuq-planes" });
  self.planes = {};
  for (const [name, hue] of Object.entries(HUES)) {
    const painter = mapPainter(SIDE);
    const paint = (context, onto) => paintMap(self, name, painter, onto);
    self.planes[name] = plane(self.owner, { title: "", ...DOMAIN, hue, draw: paint });
    row.append(self.planes[name].node);
  }
  self.owner.body.append(row);
  self.marks = movable(self.owner, Object.values(self.planes), {
    points: self.points,
    classes: self.settings.classes,
    fewest: FEWEST,
    step: 0.25,
    label: "Training points",
    onChange: () => dataChanged(self),
    onSelect: (index) => self.classChoice?.show(self.points[index]?.label),
  });
}

/** The ramps of the present theme, made once for it. */
function coloursOf(self) {
  if (!self.colours) {
    const tokens = palette(self.owner.node);
    const table = (hue) => ramp(tokens.paper, tokens[hue]);
    const tables = Object.fromEntries(Object.keys(HUES).map((name) => [name, table(HUES[name])]));
    self.colours = { tokens, tables };
  }
  return self.colours;
}

function paintMap(self, name, painter, onto) {
  const { tokens, tables } = coloursOf(self);
  const map = self.maps[name];
  const top = map[largest(map)];
  painter(onto, map, tables[name], top);
  showScale(onto, tables[name], top);
  const { classes } = self.networks.spec;
  const labels = self.shown === SUM ? Array.from({ length: classes }, (_, k) => k) : [self.shown];
  for (const label of classes === 1 ? [0] : labels) {
    const lead = self.networks.lead(label, self.lead);
    contour(onto, lead, { level: 0, columns: SIDE, colour: css(tokens.ink, 0.75), width: 1.25 });
  }
}

// ---------------------------------------------------------------- what the reader does

function buildControls(self) {
  const { settings } = self;
  const set = (changes) => {
    Object.assign(settings, changes);
    restart(self);
  };
  const presets = Object.entries(PRESETS).map(([value, { text }]) => ({ value, text }));
  const plain = (values) => values.map((value) => ({ value, text: String(value) }));
  const counts = choice({
    label: "Number of classes",
    options: plain([2, 3]),
    value: settings.classes,
    onChoose: (classes) => fresh(self, { classes }),
  });
  const picked = choice({
    label: "Data",
    options: presets,
    value: settings.preset,
    onChoose: (preset) => fresh(self, { preset }),
  });
  const activation = choice({
    label: "Activation",
    options: plain(ACTIVATIONS),
    value: settings.activation,
    onChoose: (value) => set({ activation: value }),
  });
  const width = slider({
    label: "Width",
    values: WIDTHS,
    value: settings.width,
    onInput: (value) => set({ width: value }),
  });
  const decay = slider({
    label: "Weight decay",
    values: DECAYS,
    value: settings.decay,
    say: format,
    onInput: (value) => set({ decay: value }),
  });
  const starts = element("div", { className: "gnuq-buttons" });
  starts.append(button({ text: "New starts", onClick: () => set({ seed: settings.seed + 1 }) }));
  self.forClasses = element("div", { className: "gnuq-controls" });
  self.owner.body.prepend(
    controls(named("Data", picked), named("Classes", counts), named("Units", activation)),
    self.forClasses,
  );
  self.owner.body.append(controls(width, decay, starts));
  placeClassControls(self);
}

/** What depends on the number of classes: the class of the chosen point, and which one is shown. */
function placeClassControls(self) {
  const { classes } = self.settings;
  const all = Array.from({ length: classes }, (_, k) => ({ value: k, text: String(k + 1) }));
  self.classChoice = choice({
    label: "Class of the chosen point",
    options: all.map(({ value }) => ({ value, text: `${"●□▲"[value]} ${value + 1}` })),
    value: self.points[self.marks.selected]?.label,
    onChoose: (label) => self.marks.setLabel(label),
  });
  const add = () => self.marks.add(...NEW_PLACE, self.points[self.marks.selected]?.label ?? 0);
  const edit = element("div", { className: "gnuq-buttons" });
  edit.append(
    button({ text: "Add", onClick: add }),
    button({ text: "Remove", onClick: () => self.marks.remove() }),
  );
  const shown = choice({
    label: "Which class the maps show",
    options: [{ value: SUM, text: "Sum" }, ...all],
    value: self.shown,
    onChoose: (label) => showClass(self, label),
  });
  self.forClasses.replaceChildren(named("Chosen point", self.classChoice), edit);
  if (classes > 2) self.forClasses.append(named("Maps of class", shown));
}

/** New points. */
function fresh(self, changes) {
  Object.assign(self.settings, changes);
  const { preset, classes, seed } = self.settings;
  self.points = draw(preset, classes, seed);
  self.shown = SUM;
  self.marks.replace(self.points, classes);
  placeClassControls(self);
  restart(self);
}

function dataChanged(self) {
  self.networks.data = asData(self.points);
  self.networks.wake();
  self.classChoice.show(self.points[self.marks.selected]?.label);
  self.changed = performance.now();
  run(self);
}

function showClass(self, label) {
  self.shown = label;
  redraw(self);
  finish(self);
}

/**
 * New networks on the present points. A new decay needs them too: a network that a strong decay has
 * brought near 0 stays there when the decay is weak again, for at 0 the loss has no slope.
 */
function restart(self) {
  self.networks = new Networks(self.settings, asData(self.points));
  self.changed = -Infinity;
  run(self);
}

function name({ planes, shown, settings }) {
  const subscript = settings.classes === 2 ? "" : shown === SUM ? "ₖ" : "₁₂₃"[shown];
  const sum = settings.classes > 2 && shown === SUM ? "Σ " : "";
  planes.epistemic.heading.textContent = `Epistemic: ${sum}‖∇p${subscript}‖²`;
  planes.aleatoric.heading.textContent = `Aleatoric: ${sum}p${subscript}(1 − p${subscript})`;
  planes.ensemble.heading.textContent = `Variance of ${MEMBERS} networks`;
}

// ---------------------------------------------------------------- frames

/** Train and draw, frame by frame, until all networks have converged. */
function run(self) {
  self.owner.node.setAttribute("aria-busy", "true");
  self.owner.schedule(() => {
    const resting = performance.now() - self.changed > REST;
    self.networks.advance(resting ? TRAINING.resting : TRAINING.moving);
    const done = self.networks.converged;
    if (done || !self.owner.reducedMotion()) redraw(self);
    if (!done) return run(self);
    self.owner.node.setAttribute("aria-busy", "false");
    finish(self);
  });
}

function redraw(self) {
  name(self);
  self.networks.fill(self.shown, self.maps);
  for (const each of Object.values(self.planes)) each.redraw();
}

function finish(self) {
  self.owner.describe(summary(self));
  self.tell(report(self));
}

export default widget(mount);
