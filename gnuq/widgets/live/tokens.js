/**
 * Tokens: answers of a language model, each token with its probability and with what it adds to the
 * squared gradient norm (Eq. (10)); products of pairs of tokens; the weights that carry the norm.
 *
 * Everything comes from the book's records; nothing is computed but shares. By weights the records
 * split whole answers, not single tokens.
 */
import { controls, element, format, named, stage, widget } from "./stage.js";

const KINDS = {
  q_proj: "Queries",
  k_proj: "Keys",
  v_proj: "Values",
  o_proj: "Attention output",
  gate_proj: "MLP gate",
  up_proj: "MLP up",
  down_proj: "MLP down",
  input_layernorm: "Attention norm",
  post_attention_layernorm: "MLP norm",
  embed_tokens: "Embedding and head",
  norm: "Last norm",
};
const ALL = "all";
const SHORT = 16; // tokens; longer answers get lower bars and fewer numbers

// ---------------------------------------------------------------- shares

/**
 * One answer as the records have it. ‖∇p̄‖² is the sum of `share`, and of all weights.
 * @typedef {object} Answer
 * @property {number} question  its number in TruthfulQA
 * @property {string[]} tokens  T texts
 * @property {number[]} probability  p_t
 * @property {number[]} aleatoric  p_t (1 − p_t)
 * @property {number[]} squared_norm  ‖∇p_t‖²
 * @property {number[]} share  (1/T) ⟨∇p_t, ∇p̄⟩
 * @property {number} prompt  what of ‖∇p̄‖² arises at the prompt's positions
 * @property {number[][] | null} products  ⟨∇p_t, ∇p_s⟩, T × T
 * @property {Record<string, number[]>} blocks  by kind of module, a number a block
 * @property {Record<string, number>} outside  by module outside the blocks
 *
 * The same as shares of ‖∇p̄‖².
 * @typedef {object} Shares
 * @property {number} total  ‖∇p̄‖²
 * @property {number[]} own  ‖∇p_t‖² / T², a token's own norm
 * @property {number[]} cross  the products with all other tokens
 * @property {number[]} token  own + cross
 * @property {number[][] | null} pairs  ⟨∇p_t, ∇p_s⟩ / T²
 * @property {number} prompt
 * @property {{name: string, share: number, blocks: number[] | null}[]} kinds
 * @property {number[]} blocks  by block, over all kinds
 */

const sum = (values) => values.reduce((total, value) => total + value, 0);

/**
 * @param {Answer} answer
 * @returns {Shares}
 */
export function sharesOf(answer) {
  const total = sum(answer.share);
  const square = answer.tokens.length ** 2;
  const token = answer.share.map((value) => value / total);
  const own = answer.squared_norm.map((value) => value / square / total);
  const inBlocks = Object.entries(answer.blocks).map(([name, values]) => {
    const blocks = values.map((value) => value / total);
    return { name, blocks, share: sum(blocks) };
  });
  const outside = Object.entries(answer.outside).map(([name, value]) => {
    return { name, blocks: null, share: value / total };
  });
  return {
    total,
    own,
    token,
    cross: token.map((value, t) => value - own[t]),
    pairs: answer.products?.map((row) => row.map((value) => value / square / total)) ?? null,
    prompt: answer.prompt / total,
    kinds: [...inBlocks, ...outside],
    blocks: inBlocks[0].blocks.map((_, at) => sum(inBlocks.map(({ blocks }) => blocks[at]))),
  };
}

/**
 * The pieces of a token's bar, from low to high, as shares: its own norm is solid; positive
 * products lie on top of it, negative ones take from it what is then drawn empty.
 * @param {number} own  not negative
 * @param {number} cross
 * @returns {{kind: "own" | "cross" | "taken", low: number, high: number}[]}
 */
export function pieces(own, cross) {
  const share = own + cross;
  if (cross >= 0) {
    return [{ kind: "own", low: 0, high: own }, { kind: "cross", low: own, high: share }];
  }
  const kept = Math.max(0, share);
  const found = [{ kind: "own", low: 0, high: kept }, { kind: "taken", low: kept, high: own }];
  return share < 0 ? [{ kind: "cross", low: share, high: 0 }, ...found] : found;
}

// ---------------------------------------------------------------- texts

/** A share as a percentage, a digit behind the point below ten. */
export function percent(share) {
  const value = 100 * share;
  const digits = Math.abs(value) < 9.95 ? 1 : 0;
  return `${value.toFixed(digits).replace(/^-(0(?:\.0)?)$/, "$1").replace("-", "−")} %`;
}

const bare = (share) => percent(share).slice(0, -2);

/** A token's text without the space before it; a line break shows as its sign. */
const spoken = (token) => token.trim() || (token.includes("\n") ? "⏎" : "␣");

/** An answer in the menu: its first words, and how much is products of different tokens. */
function brief(answer) {
  const text = answer.tokens.join("").trim();
  const first = text.length > 36 ? `${text.slice(0, 34).trimEnd()} …` : text;
  return `${first} (cross terms ${percent(sum(sharesOf(answer).cross))})`;
}

// ---------------------------------------------------------------- choosing by keyboard

const TURNS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };

/**
 * Let one of several elements be chosen by click, arrow keys, Home and End: a list box with one
 * place in the tab order.
 * @param {HTMLElement} list
 * @param {HTMLElement[]} items
 * @param {{chosen: number, onChoose: (index: number) => void, signal: AbortSignal}} options
 */
function listBox(list, items, { chosen, onChoose, signal }) {
  list.setAttribute("role", "listbox");
  const show = (index) =>
    items.forEach((item, at) => {
      item.setAttribute("aria-selected", String(at === index));
      item.tabIndex = at === index ? 0 : -1;
    });
  const choose = (index) => {
    show(index);
    items[index].focus({ preventScroll: true });
    onChoose(index);
  };
  items.forEach((item, index) => {
    item.setAttribute("role", "option");
    item.addEventListener("click", () => choose(index), { signal });
    item.addEventListener("keydown", (event) => {
      const ends = { Home: 0, End: items.length - 1 };
      const next = ends[event.key] ?? index + TURNS[event.key];
      if (!(next in items) || event.ctrlKey || event.metaKey || event.altKey) return;
      choose(next);
      event.preventDefault();
    }, { signal });
  });
  show(chosen);
  return { show };
}

// ---------------------------------------------------------------- the answer's tokens

/** Place a piece of a bar between two heights, `scale` of which makes a whole bar. */
function placed(className, low, high, { bottom, height }) {
  const node = element("span", { className });
  node.style.bottom = `${((low - bottom) / height) * 100}%`;
  node.style.height = `${(Math.max(0, high - low) / height) * 100}%`;
  return node;
}

const numbered = (answer) => answer.tokens.length <= SHORT;

/** The answer in words, a bar standing on each token, its probability the line under it. */
function drawTokens(answer, shares) {
  const top = Math.max(...shares.own, ...shares.token);
  const bottom = Math.min(0, ...shares.token);
  const scale = { bottom, height: top - bottom };
  const nodes = answer.tokens.map((token, t) => {
    const bar = element("span", { className: "gnuq-tokens-bar" });
    for (const { kind, low, high } of pieces(shares.own[t], shares.cross[t])) {
      bar.append(placed(`gnuq-tokens-${kind}`, low, high, scale));
    }
    const height = Math.max(shares.own[t], shares.token[t]);
    const label = placed("gnuq-tokens-number", height, height, scale);
    if (numbered(answer)) label.textContent = bare(shares.token[t]);
    bar.append(label, placed("gnuq-tokens-zero", 0, 0, scale));
    const word = element("span", { className: "gnuq-tokens-word" }, spoken(token));
    const line = element("span", { className: "gnuq-tokens-p" }, element("span"));
    line.firstChild.style.width = `${100 * answer.probability[t]}%`;
    const node = element("div", { className: "gnuq-tokens-token" }, bar, word, line);
    node.classList.toggle("gnuq-tokens-apart", /^\s/.test(token));
    const told = `p ${format(answer.probability[t])}, ${percent(shares.token[t])}`;
    node.setAttribute("aria-label", `${spoken(token)}: ${told}`);
    return node;
  });
  const list = element("div", { className: "gnuq-tokens-answer" }, ...nodes);
  list.setAttribute("aria-label", "Tokens");
  list.setAttribute("aria-orientation", "horizontal");
  list.classList.toggle("gnuq-tokens-long", !numbered(answer));
  return { list, nodes };
}

const KEY = [
  ["gnuq-tokens-own", "own norm"],
  ["gnuq-tokens-cross", "products with other tokens"],
  ["gnuq-tokens-taken", "taken away by negative ones"],
  ["gnuq-tokens-p", "probability of the token"],
];

function drawKey() {
  const entries = KEY.map(([className, text]) =>
    element("span", {}, element("i", { className }), text),
  );
  return element("p", { className: "gnuq-tokens-key", "aria-hidden": "true" }, ...entries);
}

// ---------------------------------------------------------------- pairs of tokens

/** The double sum of Eq. (10) as a table: a row adds up to its token's share. */
function drawPairs(answer, pairs, onRow) {
  const most = Math.max(...pairs.flat().map(Math.abs));
  const head = element("tr", {}, element("td"));
  const rows = pairs.map((row, t) => {
    head.append(element("th", { scope: "col" }, String(t + 1)));
    const name = element("th", { scope: "row" }, `${t + 1} ${spoken(answer.tokens[t])}`);
    const cells = row.map((value) => {
      const cell = element("td", {}, bare(value));
      const sign = value < 0 ? "minus" : "plus";
      cell.className = `gnuq-tokens-${sign}`;
      cell.style.setProperty("--gnuq-strength", Math.sqrt(Math.abs(value) / most).toFixed(3));
      return cell;
    });
    const node = element("tr", {}, name, ...cells);
    node.addEventListener("click", () => onRow(t));
    return node;
  });
  const table = element("table", { className: "gnuq-tokens-pairs" });
  table.append(element("thead", {}, head), element("tbody", {}, ...rows));
  table.setAttribute("aria-label", "Products of pairs of tokens, per cent of the squared norm");
  return { table, rows };
}

// ---------------------------------------------------------------- weights

/** One row a kind of module: its share of the norm as a bar. */
function drawKinds(shares) {
  const all = { name: ALL, share: 1 };
  const most = Math.max(...shares.kinds.map(({ share }) => share));
  const nodes = [all, ...shares.kinds].map(({ name, share }) => {
    const bar = element("span", { className: "gnuq-tokens-kind-bar" }, element("span"));
    bar.firstChild.style.width = name === ALL ? 0 : `${(100 * share) / most}%`;
    const text = name === ALL ? "All weights" : nameOf({ name });
    const label = element("span", {}, text);
    const value = element("span", { className: "gnuq-tokens-value" }, percent(share));
    const node = element("div", { className: "gnuq-tokens-kind" }, label, bar, value);
    node.setAttribute("aria-label", `${text}: ${percent(share)}`);
    return node;
  });
  const list = element("div", { className: "gnuq-tokens-kinds" }, ...nodes);
  list.setAttribute("aria-label", "Kinds of weights");
  return { list, nodes };
}

/** One column a block; the chosen kind's part is solid, the rest pale. */
function drawBlocks(shares, kind) {
  const most = Math.max(...shares.blocks);
  const scale = { bottom: 0, height: most };
  const columns = shares.blocks.map((whole, block) => {
    const part = kind === null ? whole : (kind.blocks?.[block] ?? 0);
    const column = element("span", { title: `Block ${block}: ${percent(part)}` });
    column.append(
      placed("gnuq-tokens-rest", part, whole, scale),
      placed("gnuq-tokens-part", 0, part, scale),
    );
    return column;
  });
  const chart = element("div", { className: "gnuq-tokens-blocks" }, ...columns);
  const last = shares.blocks.length - 1;
  const ends = [element("span", {}, "block 0"), element("span", {}, `block ${last}`)];
  const axis = element("p", { className: "gnuq-tokens-axis" }, ...ends);
  const top = element("p", { className: "gnuq-tokens-axis" }, percent(most));
  return [top, chart, axis];
}

// ---------------------------------------------------------------- the figure

/**
 * @param {HTMLElement} host
 * @param {{answers: Answer[]}} options
 * @param {(state: {question: number, token: number, kind: string}) => void} [report]
 * @returns {{destroy: () => void}}
 */
export function mount(host, options, report = () => {}) {
  const owner = stage(host, { label: "Answers of a language model, token by token" });
  const figure = new Figure(owner, options, report);
  figure.show(0);
  return { destroy: () => owner.destroy() };
}

export default widget(mount);

class Figure {
  constructor(owner, { answers }, report) {
    Object.assign(this, { owner, answers, report, kind: null });
    const box = (className) => element("div", { className });
    this.words = box("gnuq-tokens-words");
    this.pairs = box("gnuq-tokens-part-pairs");
    this.kinds = box("gnuq-tokens-part-kinds");
    this.blocks = box("gnuq-tokens-part-blocks");
    this.parts = box("gnuq-tokens-parts");
    this.parts.append(this.pairs, this.kinds, this.blocks);
    const menu = named("Answer", this.menu());
    menu.classList.add("gnuq-tokens-menu");
    owner.body.append(controls(menu), this.words, drawKey(), this.parts);
  }

  menu() {
    const options = this.answers.map((answer) => element("option", {}, brief(answer)));
    const select = element("select", { "aria-label": "Answer" }, ...options);
    const choose = () => this.show(select.selectedIndex);
    select.addEventListener("change", choose, { signal: this.owner.signal });
    return select;
  }

  /** Show another answer, at the token that adds most. */
  show(index) {
    this.answer = this.answers[index];
    this.shares = sharesOf(this.answer);
    this.token = this.shares.token.indexOf(Math.max(...this.shares.token));
    this.kind = null;
    this.showTokens();
    this.showPairs();
    this.showKinds();
    this.tell();
  }

  showTokens() {
    const { answer, shares, owner } = this;
    const { list, nodes } = drawTokens(answer, shares);
    const onChoose = (t) => this.chooseToken(t);
    this.tokens = listBox(list, nodes, { chosen: this.token, onChoose, signal: owner.signal });
    const question = `The answer to question ${answer.question} of TruthfulQA`;
    const heading = title(`${question}; bars: share of ‖∇p̄‖²${numbered(answer) ? ", %" : ""}`);
    this.words.replaceChildren(heading, list);
  }

  showPairs() {
    const { answer, shares } = this;
    this.parts.classList.toggle("gnuq-tokens-unpaired", !shares.pairs);
    if (!shares.pairs) {
      const text = "The records hold no single products for this answer, only their sums above.";
      this.rows = [];
      return this.pairs.replaceChildren(note(text));
    }
    const index = (text) => element("sub", {}, text);
    const heading = title("⟨∇p", index("t"), ", ∇p", index("s"), "⟩ / T², % of ‖∇p̄‖²");
    const { table, rows } = drawPairs(answer, shares.pairs, (t) => {
      this.tokens.show(t);
      this.chooseToken(t);
    });
    this.rows = rows;
    this.markRow();
    this.pairs.replaceChildren(heading, table, note("A row adds up to its token's share."));
  }

  showKinds() {
    const { shares, owner } = this;
    const { list, nodes } = drawKinds(shares);
    const onChoose = (index) => this.chooseKind(index);
    listBox(list, nodes, { chosen: 0, onChoose, signal: owner.signal });
    this.kinds.replaceChildren(title("The weights that carry it (whole answer)"), list);
    this.showBlocks();
  }

  showBlocks() {
    const { shares, kind } = this;
    const name = kind ? nameOf(kind) : "all weights of a block";
    const heading = title(`By block: ${kind?.blocks === null ? "none, outside the blocks" : name}`);
    this.blocks.replaceChildren(heading, ...drawBlocks(shares, kind));
  }

  chooseToken(t) {
    this.token = t;
    this.markRow();
    this.tell();
  }

  chooseKind(index) {
    this.kind = index === 0 ? null : this.shares.kinds[index - 1];
    this.showBlocks();
    this.tell();
  }

  markRow() {
    this.rows.forEach((row, t) => row.classList.toggle("gnuq-tokens-chosen", t === this.token));
  }

  tell() {
    const { answer, token, kind } = this;
    this.owner.describe(`${this.tokenSentence()} ${this.kindSentence()}`);
    this.report({ question: answer.question, token, kind: kind?.name ?? ALL });
  }

  tokenSentence() {
    const { answer, shares, token: t } = this;
    const [p, bernoulli] = [answer.probability[t], answer.aleatoric[t]].map(format);
    return (
      `“${spoken(answer.tokens[t])}”, token ${t + 1} of ${answer.tokens.length}: probability ` +
      `${p}, p(1 − p) = ${bernoulli}. It adds ${percent(shares.token[t])} of ‖∇p̄‖² = ` +
      `${format(shares.total)}: ${percent(shares.own[t])} by its own norm, ` +
      `${percent(shares.cross[t])} by products with other tokens. Over the answer such products ` +
      `make ${percent(sum(shares.cross))}.`
    );
  }

  kindSentence() {
    const { shares, kind } = this;
    if (!kind) return `${percent(shares.prompt)} of ‖∇p̄‖² arises at positions of the prompt.`;
    const told = `${nameOf(kind)}: ${percent(kind.share)} of ‖∇p̄‖²`;
    if (!kind.blocks) return `${told}, outside the blocks.`;
    const most = Math.max(...kind.blocks);
    return `${told}, most in block ${kind.blocks.indexOf(most)} (${percent(most)}).`;
  }
}

const title = (...parts) => element("p", { className: "gnuq-plane-title" }, ...parts);
const note = (text) => element("p", { className: "gnuq-tokens-note" }, text);
const nameOf = ({ name }) => KINDS[name] ?? name;
