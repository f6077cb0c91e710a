/**
 * Shows a lecture's page one section at a time: keys, swipes, speaker notes, printing.
 *
 * A page is a lecture if it has speaker notes, `<details class="gnuq-notes">`. Its slides are what
 * stands before the first section, and then each section. While they are shown the nodes themselves
 * stand in a modal dialog, not copies: a figure keeps its data and what was set in it, and the rest
 * of the page is out of the keyboard's reach. Ending puts them back where they were.
 *
 * @typedef {{nodes: Node[], markers: Comment[], holder: HTMLElement, title: string}} Slide
 * @typedef {{slides: Slide[], at: number, dialog: HTMLDialogElement, stage: HTMLElement,
 *   counter: HTMLElement, bar: HTMLElement, notes: HTMLButtonElement,
 *   opener: HTMLButtonElement}} Talk no slides while the page is whole
 */

/** Keys that turn the page. Up and down scroll a slide that is taller than the screen. */
const STEPS = new Map([
  ["ArrowRight", 1],
  ["PageDown", 1],
  ["Enter", 1],
  [" ", 1],
  ["ArrowLeft", -1],
  ["PageUp", -1],
  ["Backspace", -1],
]);
const SWIPE = 60; // pixels
const DESIGN = { width: 1150, height: 640 }; // pixels of a stage whose plots need no enlarging
const PATIENCE = 5000; // milliseconds that printing waits for one figure
const HEADING = "h1, h2";
/** What keeps its own keys, and what keeps its own drags. */
const OWN_KEYS = "input, select, textarea, [contenteditable], .gnuq-live-host";
const OWN_ACTIVATION = "button, a, summary";
const OWN_DRAGS = `${OWN_KEYS}, ${OWN_ACTIVATION}, pre, table, mjx-container`;

function element(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function button(text, label, onClick) {
  const node = element("button", { type: "button", onclick: onClick }, text);
  if (label !== text) node.setAttribute("aria-label", label);
  return node;
}

const isElement = (node) => node.nodeType === Node.ELEMENT_NODE;

// ---------------------------------------------------------------- slides

/**
 * The nodes of each slide.
 * @param {Element} top the page's outermost section
 * @returns {Node[][]} first what stands before any section, then each section alone
 */
function slidesOf(top) {
  const sections = [...top.querySelectorAll(":scope > section")];
  const before = [];
  for (const node of top.childNodes) {
    if (node === sections[0] || node.nodeName === "DIALOG") break;
    if (!node.classList?.contains("gnuq-present")) before.push(node);
  }
  return [before, ...sections.map((section) => [section])];
}

/** A heading's text without the sign that links to it. */
function titleOf(nodes) {
  const within = (node) => (node.matches(HEADING) ? node : node.querySelector(HEADING));
  const found = nodes.filter(isElement).map(within);
  const heading = found.find(Boolean)?.cloneNode(true);
  heading?.querySelectorAll(".headerlink").forEach((link) => link.remove());
  return heading?.textContent.trim() ?? "";
}

/** Move the slides' nodes into the stage, each into a holder of its own. */
function gather(top, stage) {
  return slidesOf(top).map((nodes) => {
    const holder = element("div", { className: "gnuq-slide", hidden: true });
    const markers = nodes.map(() => document.createComment("on a slide"));
    nodes.forEach((node, at) => node.replaceWith(markers[at]));
    holder.append(...nodes);
    stage.append(holder);
    return { nodes, markers, holder, title: titleOf(nodes) };
  });
}

/** Put everything back. */
function scatter(slides) {
  for (const { nodes, markers, holder } of slides) {
    markers.forEach((marker, at) => marker.replaceWith(nodes[at]));
    holder.remove();
  }
}

/** The slide that the reader of the page is looking at; at the top of the page, the first. */
function current(slides) {
  if (scrollY === 0) return 0;
  const bottom = (nodes) =>
    Math.max(...nodes.filter(isElement).map((node) => node.getBoundingClientRect().bottom));
  const at = slides.findIndex((nodes) => bottom(nodes) > 0.3 * innerHeight);
  return at < 0 ? slides.length - 1 : at;
}

// ---------------------------------------------------------------- the talk

/** @param {Talk} talk @param {number} index the slide to show; beyond either end nothing changes */
function show(talk, index) {
  const { slides, stage, counter, bar } = talk;
  if (!slides[index]) return;
  talk.at = index;
  slides.forEach(({ holder }, at) => (holder.hidden = at !== index));
  stage.scrollTop = 0;
  const title = element("span", { className: "gnuq-slide-title" }, slides[index].title);
  counter.replaceChildren(`${index + 1} / ${slides.length} `, title);
  bar.style.setProperty("--gnuq-share", String(index / Math.max(1, slides.length - 1)));
}

/** @param {Talk} talk */
function toggleNotes({ dialog, stage, notes }) {
  const shown = dialog.classList.toggle("gnuq-with-notes");
  notes.setAttribute("aria-pressed", String(shown));
  stage.querySelectorAll("details.gnuq-notes").forEach((node) => (node.open = shown));
}

/** @param {Talk} talk @param {KeyboardEvent} event */
function onKey(talk, event) {
  const { target, key } = event;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.closest(OWN_KEYS) && key !== "Escape") return;
  if (target.closest(OWN_ACTIVATION) && (key === " " || key === "Enter")) return;
  const back = key === " " && event.shiftKey;
  if (key === "Escape") end(talk); // the dialog's own close event waits for a frame
  else if (key.toLowerCase() === "n") toggleNotes(talk);
  else if (key === "Home") show(talk, 0);
  else if (key === "End") show(talk, talk.slides.length - 1);
  else if (STEPS.has(key)) show(talk, talk.at + (back ? -1 : STEPS.get(key)));
  else return;
  event.preventDefault();
}

/** Turn pages by swiping sideways with a finger or a pen, where nothing else can be dragged. */
function onSwipe(talk) {
  let from;
  talk.stage.addEventListener("pointerdown", (event) => {
    const finger = event.isPrimary && event.pointerType !== "mouse";
    from = finger && !event.target.closest(OWN_DRAGS) ? event : undefined;
  });
  talk.stage.addEventListener("pointercancel", () => (from = undefined));
  talk.stage.addEventListener("pointerup", (event) => {
    if (!from || event.pointerId !== from.pointerId) return;
    const [right, down] = [event.clientX - from.clientX, event.clientY - from.clientY];
    if (Math.abs(right) > SWIPE && Math.abs(right) > 2 * Math.abs(down)) {
      show(talk, talk.at - Math.sign(right));
    }
  });
}

/** Tell the stylesheet how much larger than designed a plot should be on this screen. */
function onResize(stage) {
  new ResizeObserver(() => {
    const fits = Math.min(stage.clientWidth / DESIGN.width, stage.clientHeight / DESIGN.height);
    stage.style.setProperty("--gnuq-scale", String(Math.min(2.2, Math.max(1, fits))));
  }).observe(stage);
}

/** The dialog with its foot: where we are, and buttons for those without a keyboard. */
function build(label) {
  const stage = element("div", { className: "gnuq-slide-stage", tabIndex: -1, autofocus: true });
  const counter = element("output", { className: "gnuq-slide-counter" });
  const bar = element("div", { className: "gnuq-slide-bar" });
  const talk = { slides: [], at: 0, stage, counter, bar };
  talk.notes = button("Notes", "Notes", () => toggleNotes(talk));
  talk.notes.setAttribute("aria-pressed", "false");
  const group = element(
    "div",
    { className: "gnuq-buttons" },
    button("←", "Previous slide", () => show(talk, talk.at - 1)),
    button("→", "Next slide", () => show(talk, talk.at + 1)),
    talk.notes,
    button("End", "End", () => end(talk)),
  );
  const foot = element("div", { className: "gnuq-controls gnuq-slide-foot" }, bar, counter, group);
  talk.dialog = element("dialog", { className: "gnuq-slides" }, stage, foot);
  talk.dialog.setAttribute("aria-label", label);
  talk.dialog.addEventListener("keydown", (event) => onKey(talk, event));
  onSwipe(talk);
  onResize(stage);
  return talk;
}

/** Show the slides, full-screen where the browser lets us, from the one in view. */
async function present(talk, top) {
  const from = current(slidesOf(top));
  await document.documentElement.requestFullscreen?.().catch(() => {});
  if (talk.slides.length) return; // pressed twice
  talk.slides = gather(top, talk.stage);
  talk.dialog.showModal();
  show(talk, from);
}

/** Put the page back together, at the slide that was shown last; again, and nothing happens. */
function end(talk) {
  if (!talk.slides.length) return;
  const seen = talk.slides[talk.at].nodes.find(isElement);
  if (talk.dialog.classList.contains("gnuq-with-notes")) toggleNotes(talk);
  talk.dialog.close();
  scatter(talk.slides);
  talk.slides = [];
  if (document.fullscreenElement) document.exitFullscreen();
  talk.opener.focus({ preventScroll: true });
  seen.scrollIntoView();
}

// ---------------------------------------------------------------- printing

/** Wait until a figure is drawn, has failed, or has had its time. */
async function drawn(figure) {
  const start = performance.now();
  const waiting = () => figure.querySelector(".gnuq-alt") && !figure.matches(".gnuq-failed");
  while (waiting() && performance.now() - start < PATIENCE) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Figures are drawn when they come into view: visit each, then print, one slide a page. */
async function printSlides(top) {
  const { scrollX, scrollY } = window;
  for (const figure of top.querySelectorAll(".gnuq-figure")) {
    figure.scrollIntoView({ behavior: "instant" });
    await drawn(figure);
  }
  scrollTo({ left: scrollX, top: scrollY, behavior: "instant" });
  print();
}

// ---------------------------------------------------------------- the page

function start() {
  const notes = document.querySelector("details.gnuq-notes");
  const top = notes?.closest("article")?.querySelector("section");
  if (!top) return;
  document.documentElement.classList.add("gnuq-lecture");
  const talk = build(titleOf([top.querySelector("h1")]));
  talk.opener = button("Present", "Present", () => present(talk, top));
  const group = element(
    "div",
    { className: "gnuq-buttons" },
    talk.opener,
    button("Print", "Print", () => printSlides(top)),
  );
  const help = element("span", {}, "Arrow keys, space, a swipe: next slide. n: speaker notes.");
  top.querySelector("h1").after(
    element("div", { className: "gnuq-controls gnuq-present" }, group, help),
  );
  top.append(talk.dialog);
  talk.dialog.addEventListener("close", () => talk.dialog.open || end(talk));
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement) end(talk);
  });
}

start();
