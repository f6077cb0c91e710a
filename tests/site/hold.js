// Runs before the scripts of a page: nothing comes into view until `comeIntoView()` is called. What
// is fetched before is the first load of the page, wherever its figures stand.
{
  const { observe } = IntersectionObserver.prototype;
  const held = [];
  IntersectionObserver.prototype.observe = function hold(node) {
    held.push([this, node]);
  };
  window.comeIntoView = () => {
    IntersectionObserver.prototype.observe = observe;
    for (const [observer, node] of held) observer.observe(node);
  };
}
