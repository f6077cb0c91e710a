/**
 * Starts the live figures that gnuq/widgets/live_figure.py left on a page, each when it comes near
 * the view. A page without one fetches nothing more; a figure that cannot start keeps its text.
 */

const at = (name) => new URL(`live/${name}`, import.meta.url).href;

/** The figures' stylesheet, once a page; resolves when it applies, or cannot. */
function loadStyle() {
  const link = Object.assign(document.createElement("link"), {
    rel: "stylesheet",
    href: at("live.css"),
  });
  const ready = new Promise((resolve) => (link.onload = link.onerror = resolve));
  document.head.append(link);
  return ready;
}

let style;

async function startFigure(host) {
  try {
    style ??= loadStyle();
    const [{ mount }] = await Promise.all([import(at(`${host.dataset.gnuqLive}.js`)), style]);
    mount(host, JSON.parse(host.dataset.options));
  } catch (error) {
    console.error(error);
    host.closest(".gnuq-figure")?.classList.add("gnuq-failed");
  }
  host.style.minHeight = ""; // it kept the figure's room until now
}

const observer = new IntersectionObserver(
  (entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      observer.unobserve(target);
      startFigure(target);
    }
  },
  { rootMargin: "600px 0px" },
);

for (const host of document.querySelectorAll("[data-gnuq-live]")) observer.observe(host);
