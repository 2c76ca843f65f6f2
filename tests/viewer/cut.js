// What of the page a person cannot see: what makes it wider than the window, and texts that are cut off: a line each.
() => {
  const found = [];
  const within = (root) => [...root.querySelectorAll("*")].flatMap((each) =>
    each.shadowRoot ? [each, ...within(each.shadowRoot)] : [each]);
  const parent = (each) => each.parentElement ?? each.getRootNode().host;
  const { clientWidth, scrollWidth } = document.documentElement;
  if (scrollWidth > clientWidth) found.push(`the document is ${scrollWidth} px wide`);
  const isMoved = (each) => each && (each.matches("[data-testid=stDataFrame], .picture") || isMoved(parent(each)));
  for (const each of within(document.body)) {
    if (!each.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || isMoved(each)) continue;
    const style = getComputedStyle(each);
    const name = () => `${each.tagName} ${each.className} ${(each.textContent ?? "").trim().slice(0, 60)}`;
    const box = each.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue; // for screen readers alone
    if (style.overflowX !== "visible" && each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0) {
      found.push(`cut off: ${name()}`);
    } else if (box.right > clientWidth + 1 || box.left < -1) {
      found.push(`beyond the window: ${name()}`);
    }
  }
  return found;
}
