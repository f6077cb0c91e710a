/**
 * Looks at the page that it runs in: notes what it has fetched, draws every figure, then reports
 * what is wrong, theme by theme. Until then hold.js keeps every figure out of view.
 *
 * @param {{themes: string[], foreign: string[][]}} wanted The themes, in turn; what is not ours, as
 *   pairs of a rule of axe and the selector of the elements in which it may be broken.
 * @returns {Promise<{fetched: string[], found: Object<string, Object<string, string[]>>}>} The
 *   addresses of the first load; per theme, lists of findings by kind.
 */
async ({ themes, foreign }) => {
  const QUIET = 200; // ms without a change of the page, after which it has settled
  const NOTICE = 600; // ms after which the theme has seen again what scrolls, and made it reachable
  const PATIENCE = 60_000; // ms; a figure that has not appeared by then is not drawn

  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const all = (selector) => [...document.querySelectorAll(selector)];
  const figures = () => all(".gnuq-figure");
  const failed = (figure) => figure.matches(".gnuq-failed");
  const drawn = (figure) => figure.querySelector(".main-svg, .gnuq-live-host > :not(.gnuq-alt)");

  function name(node) {
    const id = node.id && `#${node.id}`;
    const classes = [...node.classList].map((one) => `.${one}`).join("");
    return `${node.localName}${id}${classes}`;
  }

  /** Wait until the page has not changed for a while, and no colour is on its way to another. */
  async function settle() {
    const start = performance.now();
    let last = start;
    const observer = new MutationObserver(() => (last = performance.now()));
    observer.observe(document.body, { subtree: true, childList: true, attributes: true });
    for (let now = start; now - last < QUIET && now - start < PATIENCE; now = performance.now()) {
      await pause(50);
    }
    observer.disconnect();
    const transitions = document.getAnimations().filter((one) => one instanceof CSSTransition);
    await Promise.allSettled(transitions.map(({ finished }) => finished));
  }

  /** The addresses that the page has fetched by itself, once its mathematics stands. */
  async function firstLoad() {
    await window.MathJax?.startup?.promise;
    await document.fonts.ready;
    await settle();
    return [location.href, ...performance.getEntriesByType("resource").map(({ name }) => name)];
  }

  /** Bring every figure into view, as a reader does, so that it is drawn. */
  async function scrollThrough() {
    for (const details of all("details:has(.gnuq-figure)")) details.open = true;
    comeIntoView();
    for (const figure of figures()) {
      figure.scrollIntoView({ block: "center", behavior: "instant" });
      const start = performance.now();
      while (!drawn(figure) && !failed(figure) && performance.now() - start < PATIENCE) {
        await pause(25);
      }
    }
    scrollTo({ top: document.body.scrollHeight, behavior: "instant" });
    await settle();
    scrollTo({ top: 0, behavior: "instant" });
  }

  const scrolls = (node) => getComputedStyle(node).overflowX !== "visible";

  /** What sticks out to the right of the window, unless a box around it scrolls or clips. */
  function overflow() {
    const width = document.documentElement.clientWidth;
    if (document.scrollingElement.scrollWidth <= width) return [];
    const out = all("body *").filter((node) => {
      if (node.getBoundingClientRect().right <= width + 1) return false;
      for (let box = node.parentElement; box !== document.body; box = box.parentElement) {
        if (scrolls(box)) return false;
      }
      return true;
    });
    return [`wider than ${width} px: ${out.slice(0, 3).map(name).join(", ")}`];
  }

  function duplicates() {
    const seen = new Set();
    const twice = all("[id]").filter(({ id }) => seen.size === seen.add(id).size);
    return twice.map((node) => `two elements with id ${node.id}`);
  }

  function isSentence(text) {
    const words = text.trim().split(/\s+/);
    return words.length >= 5 && /[.!?]["”’)]?$/.test(words.at(-1));
  }

  /** Figures and images that do not say, in a sentence, what they show. */
  function silent() {
    const said = ({ ariaLabel, textContent }) => ariaLabel ?? textContent;
    const texts = ".gnuq-alt, .gnuq-hidden, [aria-label]"; // before it is drawn, and after
    const mute = figures().filter((figure) => {
      return ![...figure.querySelectorAll(texts)].map(said).some(isSentence);
    });
    const images = all(".bd-article img:not([role=presentation])");
    return [...mute, ...images.filter(({ alt }) => !isSentence(alt))].map(
      (node) => `no alternative text in a sentence: ${name(node)}`,
    );
  }

  /**
   * Do something while the page holds little for axe to go through: it looks at what lies behind
   * every word. Of code one token of each kind is left; drawings hide their insides from readers'
   * tools anyway, and mathematics has the colour of its paragraph.
   */
  async function lightened(action) {
    const nodes = all("svg.main-svg, mjx-container, pre");
    const heavy = nodes.map((node) => [node, [...node.childNodes]]);
    const seen = new Set();
    for (const node of nodes) {
      const tokens = node.matches("pre") ? [...node.querySelectorAll("span")] : [];
      const place = node.closest(".cell_output") ? "output" : "code";
      const kind = ({ className }) => `${place} ${className}`;
      const fresh = tokens.filter((token) => seen.size !== seen.add(kind(token)).size);
      const copies = fresh.map((token) => token.cloneNode(true));
      node.replaceChildren(node.matches("pre") ? "text " : "", ...copies);
    }
    const result = await action();
    for (const [node, children] of heavy) node.replaceChildren(...children);
    await pause(NOTICE);
    return result;
  }

  /** Serious and critical violations that axe finds under some of its rules. */
  async function violations(rules) {
    const { violations } = await axe.run(document, {
      resultTypes: ["violations"],
      preload: false,
      ...rules,
    });
    const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const said = ({ any, all, none }) => [...any, ...all, ...none][0]?.message ?? "";
    const ours = (id, { target }) =>
      !foreign.some(([rule, selector]) => {
        return rule === id && document.querySelector(target[0])?.matches(selector);
      });
    return grave.flatMap(({ id, nodes }) =>
      nodes
        .filter((node) => ours(id, node))
        .map((node) => `${id}: ${node.target.join(" ")}: ${said(node)}`),
    );
  }

  const contrast = () => lightened(() => violations({ runOnly: ["color-contrast"] }));
  const structure = () => violations({ rules: { "color-contrast": { enabled: false } } });

  const fetched = await firstLoad();
  await scrollThrough();
  const found = {};
  for (const theme of themes) {
    document.documentElement.dataset.theme = theme;
    await settle();
    found[theme] = {
      undrawn: figures()
        .filter((figure) => failed(figure) || !drawn(figure))
        .map((figure) => `not drawn: ${name(figure)}`),
      overflow: overflow(),
      duplicates: duplicates(),
      silent: silent(),
      violations: [...(await contrast()), ...(theme === themes[0] ? await structure() : [])],
    };
  }
  return { fetched, found };
}
