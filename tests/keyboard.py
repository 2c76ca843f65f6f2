"""What a person without a mouse has: the focus, what a screen reader calls it, and whether it is seen."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from playwright.sync_api import CDPSession, FloatRect, Page

DEEPEST = """(() => {
    let element = document.activeElement;
    while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
    return element;
})()"""
MOST_STOPS = 150
MARGIN_PX, CHANGE, LEAST_PX = 6, 40, 24  # around a control; of a channel; how many pixels tell that it has the focus


class Stop(NamedTuple):
    """What has the focus: its role and name as the browser tells a screen reader, and what it is."""

    role: str
    name: str
    html: str


class Keyboard:
    """The Tab key of a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._cdp: CDPSession = page.context.new_cdp_session(page)

    def focused(self) -> Stop:
        found = self._cdp.send("Runtime.evaluate", {"expression": DEEPEST})["result"]["objectId"]
        tree = self._cdp.send("Accessibility.getPartialAXTree", {"objectId": found, "fetchRelatives": False})
        [node] = tree["nodes"][:1]
        role, name = (str(node.get(key, {}).get("value", "")) for key in ("role", "name"))
        return Stop(role, name.strip(), str(self.page.evaluate(f"{DEEPEST}.outerHTML"))[:160])

    def box(self) -> FloatRect:
        """Where what has the focus is, and a little around it."""
        box = self.page.evaluate(f"{DEEPEST}.getBoundingClientRect().toJSON()")
        x, y, width, height = (box[name] for name in ("x", "y", "width", "height"))
        left, top = max(0, x - MARGIN_PX), max(0, y - MARGIN_PX)
        return {"x": left, "y": top, "width": width + 2 * MARGIN_PX, "height": height + 2 * MARGIN_PX}

    def picture(self, box: FloatRect) -> np.ndarray:
        png = self.page.screenshot(clip=box, animations="disabled")
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)

    def to(self, name: str) -> Stop:
        """Press Tab until what is called so, or begins so, has the focus."""
        seen = []
        for _ in range(MOST_STOPS):
            self.page.keyboard.press("Tab")
            stop = self.focused()
            seen.append(stop.name)
            if stop.name.startswith(name):
                return stop
        raise AssertionError(f"Tab never comes to {name!r}; it comes to {seen}")

    def stops(self) -> list[tuple[Stop, bool]]:
        """All that Tab comes to, from the first to the last, and whether one sees that it has the focus."""
        script = "document.activeElement?.blur()"
        found: list[tuple[Stop, bool]] = []
        for _ in range(MOST_STOPS):
            self.page.keyboard.press("Tab")
            stop = self.focused()
            if stop.html.startswith("<body") or (found and stop == found[0][0]):
                return found
            box = self.box()
            with_focus = self.picture(box)
            self.page.evaluate(script)
            without = self.picture(box)
            found.append((stop, bool((abs(with_focus - without).max(axis=2) > CHANGE).sum() >= LEAST_PX)))
        raise AssertionError(f"Tab does not come to an end: {[stop.name for stop, _ in found]}")
