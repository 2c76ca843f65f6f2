/** The slide viewer: one pane, or two that move together, and the controls beside them. No control runs Python. */

import { viewInAddress, writeAddress } from "./address.js";
import { drawExport, save } from "./export.js";
import { drawLegend } from "./legend.js";
import { Pane } from "./pane.js";
import { zoomFor } from "./scale.js";
import { ask } from "./server.js";

const viewers = new WeakMap();

/** Called by Streamlit when the component is mounted, and again with new data. */
export default function viewer({ data, parentElement, setTriggerValue }) {
  let found = viewers.get(parentElement);
  if (!found) {
    found = new SlideViewer(parentElement);
    viewers.set(parentElement, found);
  }
  found.setTriggerValue = setTriggerValue;
  found.show(data);
  return () => {
    found.close();
    viewers.delete(parentElement);
  };
}

class SlideViewer {
  constructor(root) {
    this.root = root.querySelector(".viewer");
    this.hosts = [...this.root.querySelectorAll(".pane")];
    this.panes = [];
    this.isTogether = true;
    this.isHidden = false;
    this.hotspot = -1;
    this.controls = Object.fromEntries(
      [...this.root.querySelectorAll("[data-control]")].map((element) => [element.dataset.control, element]),
    );
    this.listen();
  }

  listen() {
    const { controls } = this;
    for (const name of ["opacity", "threshold", "colormap", "isSmooth", "showOutlines", "showOutcomes"]) {
      controls[name].addEventListener("input", () => this.restyle());
    }
    controls.isTogether.addEventListener("input", () => this.follow(this.leader));
    controls.previous.addEventListener("click", () => this.step(-1));
    controls.next.addEventListener("click", () => this.step(1));
    controls.home.addEventListener("click", () => this.leader.goHome());
    controls.left.addEventListener("click", () => this.leader.rotate(-90));
    controls.right.addEventListener("click", () => this.leader.rotate(90));
    controls.full.addEventListener("click", () => this.toggleFullScreen());
    controls.save.addEventListener("click", () => this.export());
    for (const button of this.root.querySelectorAll("[data-magnification]")) {
      button.addEventListener("click", () => {
        this.leader.zoomTo(zoomFor(Number(button.dataset.magnification), this.leader.spec.mpp_x));
      });
    }
    this.keys = new AbortController();
    const options = { signal: this.keys.signal };
    window.addEventListener("keydown", (event) => this.press(event), options);
    window.addEventListener("keyup", (event) => this.release(event), options);
    window.addEventListener("blur", () => this.hide(false), options);
  }

  /** Show what the page asks for; panes that are there keep their view. */
  show(data) {
    this.data = data;
    this.hosts.forEach((host, index) => {
      host.hidden = index >= data.panes.length; // all before any is filled: slides are fitted to the room they have
    });
    data.panes.forEach((spec, index) => {
      const isNew = !this.panes[index];
      this.panes[index] ??= new Pane(this.hosts[index], this.events());
      const view = isNew && index === 0 ? viewInAddress(spec.slide_id) : null;
      const isOther = spec.slide_id !== this.panes[index].spec?.slide_id;
      if (isOther) this.controls.message.hidden = true;
      if (isOther && index === 0) this.hotspot = -1;
      this.panes[index].show(spec, view);
    });
    for (const pane of this.panes.splice(data.panes.length)) {
      pane.close();
    }
    if (!this.panes.includes(this.leader)) [this.leader] = this.panes;
    this.controls.together.hidden = this.panes.length < 2;
    this.listHotspots();
    this.allow();
    this.mark(data.chosen);
    this.restyle();
    if (this.panes.length > 1) this.panes[1].osd.addOnceHandler("open", () => this.follow(this.panes[0]));
  }

  events() {
    return {
      moved: (pane) => this.follow(pane),
      rested: (pane) => {
        if (!pane.osd.isOpen()) return;
        if (pane === this.panes[0]) writeAddress(pane.spec.slide_id, pane.view());
        if (pane.isSteeredByKeys()) this.tell(pane, pane.view());
      },
      hovered: (pane, place) => this.tell(pane, place),
      led: (pane) => {
        this.leader = pane;
      },
      clicked: (pane, place) => this.ask(pane, place),
      failed: (pane, text) => {
        this.controls.message.textContent = text;
        this.controls.message.hidden = false;
      },
      recovered: () => {
        this.controls.message.hidden = true;
      },
    };
  }

  /** Have Python show the patch at a place. */
  ask(pane, place) {
    if (!place) return;
    const { slide_id, model_id, patch_set } = pane.spec;
    const at = { x: Math.round(place.x), y: Math.round(place.y) };
    this.setTriggerValue("patch", { slide_id, model_id, patch_set, ...at });
  }

  /** Have the other pane show the same place, or on another slide the place as far from its middle, at one scale. */
  follow(leader) {
    if (leader !== this.leader || this.panes.length < 2 || !this.controls.isTogether.checked) return;
    const other = this.panes.find((pane) => pane !== leader);
    if (!leader.osd.isOpen() || !other.osd.isOpen()) return;
    const hasScale = leader.spec.mpp_x && other.spec.mpp_x;
    const scale = hasScale ? other.spec.mpp_x / leader.spec.mpp_x : 1;
    const { x, y, zoom } = leader.view();
    const from = middle(leader.spec);
    const to = middle(other.spec);
    const angle = leader.osd.viewport.getRotation(true);
    other.osd.viewport.rotateTo(angle, undefined, true);
    other.goTo({ x: to.x + (x - from.x) / scale, y: to.y + (y - from.y) / scale, zoom: zoom * scale }, true);
  }

  style() {
    const { opacity, threshold, colormap, isSmooth, showOutlines, showOutcomes } = this.controls;
    return {
      opacity: Number(opacity.value),
      threshold: Number(threshold.value),
      colormap: colormap.value,
      isSmooth: isSmooth.checked,
      showOutlines: showOutlines.checked,
      showOutcomes: showOutcomes.checked && !showOutcomes.disabled,
      isHidden: this.isHidden,
    };
  }

  restyle() {
    const style = this.style();
    this.controls.opacityValue.textContent = `${Math.round(style.opacity * 100)} %`;
    this.controls.thresholdValue.textContent = style.threshold.toFixed(2);
    for (const pane of this.panes) pane.restyle(style);
    const { legend } = this.controls;
    const ratio = window.devicePixelRatio || 1;
    legend.width = legend.clientWidth * ratio;
    legend.height = legend.clientHeight * ratio;
    const context = legend.getContext("2d");
    context.scale(ratio, ratio);
    drawLegend(context, 1, 2, legend.clientWidth - 2, style, getComputedStyle(legend).color);
    legend.setAttribute("aria-label", style.showOutcomes
      ? "Colors: true positive blue, false positive orange, false negative pink"
      : `Colors of tumor probability from 0 to 1, ${style.colormap}; nothing below ${style.threshold}`);
  }

  hide(isHidden) {
    if (this.isHidden === isHidden) return;
    this.isHidden = isHidden;
    const style = this.style();
    for (const pane of this.panes) {
      pane.style = style;
      pane.draw();
    }
  }

  /** Enable what the slide, and what is known of it, allow; what is disabled says why. */
  allow() {
    const [first] = this.panes;
    const { mpp_x: mpp, heatmap, outcomes, annotations } = first.spec;
    const reason = mpp ? "" : "Nothing tells this slide's microns per pixel: give mpp in the manifest and ingest again";
    for (const button of this.root.querySelectorAll("[data-magnification]")) disable(button, !mpp, reason);
    for (const name of ["opacity", "threshold", "colormap", "isSmooth"]) {
      disable(this.controls[name], !heatmap, "No model has scored this slide");
    }
    disable(this.controls.showOutcomes, !outcomes, "No labels of this slide by the model's rule");
    disable(this.controls.showOutlines, !annotations, "Nobody has annotated this slide");
    this.controls.hotspotsFile.hidden = !first.spec.hotspots_file;
    this.controls.hotspotsFile.href = `${first.spec.hotspots_file ?? "?"}&token=${first.spec.token}`;
    this.controls.noMpp.textContent = reason;
    this.controls.noMpp.hidden = Boolean(mpp);
  }

  listHotspots() {
    const { hotspots } = this.panes[0].spec;
    this.controls.hotspots.replaceChildren(...hotspots.map((patch, index) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${patch.rank} · ${patch.probability.toFixed(3)}`;
      button.setAttribute("aria-pressed", String(index === this.hotspot));
      button.addEventListener("click", () => this.choose(index));
      item.append(button);
      return item;
    }));
    this.controls.noHotspots.hidden = hotspots.length > 0;
    for (const name of ["previous", "next"]) this.controls[name].disabled = hotspots.length === 0;
  }

  step(by) {
    const count = this.panes[0].spec.hotspots.length;
    if (count === 0) return;
    const start = this.hotspot < 0 && by < 0 ? 0 : this.hotspot;
    this.choose((start + by + count) % count);
  }

  choose(index) {
    this.hotspot = index;
    [this.leader] = this.panes;
    this.leader.goToPatch(this.leader.spec.hotspots[index]);
    [...this.controls.hotspots.querySelectorAll("button")].forEach((button, at) => {
      button.setAttribute("aria-pressed", String(at === index));
      if (at === index) button.scrollIntoView({ block: "nearest" });
    });
  }

  mark(chosen) {
    for (const pane of this.panes) pane.marks.chosen = chosen?.slide_id === pane.spec.slide_id ? chosen : null;
  }

  /** Say what is under the pointer. */
  tell(pane, place) {
    const { pointer } = this.controls;
    if (!place) {
      pointer.textContent = "";
      return;
    }
    const where = `${Math.round(place.x)}, ${Math.round(place.y)} px`;
    const told = this.panes.map((each) => {
      if (!each.heatmap || each.spec.slide_id !== pane.spec.slide_id) return null;
      const probability = each.heatmap.probabilityAt(place.x, place.y);
      return probability === null ? "no patch" : `probability ${probability.toFixed(3)}`;
    }).filter(Boolean);
    const magnification = pane.magnification();
    const scale = magnification ? `${magnification.toPrecision(3)}x` : "";
    pointer.textContent = [told.join(" and "), where, scale].filter(Boolean).join(" · ");
  }

  press(event) {
    const target = event.composedPath()[0];
    if (isTyping(target) || event.ctrlKey || event.metaKey || event.altKey) return;
    const pane = this.panes.find((each) => each.host.contains(target));
    if (event.key === "n") this.step(1);
    else if (event.key === "p") this.step(-1);
    else if (event.key === "h" || (event.key === " " && pane)) this.hide(true);
    else if (event.key === "Enter" && pane?.osd.isOpen()) this.ask(pane, pane.view());
    else return;
    event.preventDefault();
  }

  release(event) {
    if (event.key === "h" || event.key === " ") this.hide(false);
  }

  toggleFullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.root.requestFullscreen();
  }

  /** Save the view, once the server has recorded that it leaves. */
  async export() {
    for (const pane of this.panes) {
      try {
        await ask(pane.spec.saving, pane.spec.token, { method: "POST" });
      } catch (error) {
        pane.events.failed(pane, error.message);
        return;
      }
    }
    const canvas = drawExport(this.panes, this.style(), this.data.banner);
    save(canvas, `${this.panes.map((pane) => pane.spec.slide_id.replace(/[^\w.-]+/g, "_")).join("_and_")}.png`);
  }

  close() {
    this.keys.abort();
    for (const pane of this.panes) pane.close();
  }
}

function middle({ left, top, width, height }) {
  return { x: left + width / 2, y: top + height / 2 };
}

function disable(control, isDisabled, reason) {
  control.disabled = isDisabled;
  (control.closest("label") ?? control).title = isDisabled ? reason : "";
}

function isTyping(element) {
  if (!(element instanceof Element)) return false;
  if (element.isContentEditable || element.matches("textarea, select")) return true;
  return element.matches("input") && !["range", "checkbox", "radio", "button"].includes(element.type);
}
