/** The page's address holds the view, so that it can be shared; writing it runs no Python. */

/** Centre (level-0 pixels) and zoom (screen pixels a level-0 pixel) that the address gives of a slide, or null. */
export function viewInAddress(slideId) {
  const query = new URLSearchParams(window.location.search);
  if (query.get("slide") !== slideId) return null;
  const [x, y, zoom] = ["x", "y", "zoom"].map((name) => parseFloat(query.get(name)));
  return [x, y, zoom].every(Number.isFinite) && zoom > 0 ? { x, y, zoom } : null;
}

/** Put the view into the address, unless the address is of another slide. */
export function writeAddress(slideId, { x, y, zoom }) {
  const url = new URL(window.location.href);
  if (url.searchParams.get("slide") !== slideId) return;
  url.searchParams.set("x", Math.round(x));
  url.searchParams.set("y", Math.round(y));
  url.searchParams.set("zoom", +zoom.toPrecision(4));
  if (url.href !== window.location.href) window.history.replaceState(window.history.state, "", url);
}
