/** One slide on the screen: OpenSeadragon below, and on a canvas above it heatmap, outlines and marks. */

import "./vendor/openseadragon.min.js"; // sets window.OpenSeadragon
import { drawOutlines, fetchOutlines } from "./annotations.js";
import { Heatmap, fetchGrid } from "./heatmap.js";
import { magnificationOf, scaleBar } from "./scale.js";
import { tileLoader } from "./server.js";

const TILE_PX = 254; // of the server's Deep Zoom tiles, without their overlap
const OVERLAP_PX = 1;
const SMALLEST_LEVEL = 8; // the first whose edge can exceed a tile's
const PATCHES_ACROSS = 12; // the view around a hotspot
const KEYS = "Arrow keys move, plus and minus zoom, Enter shows the patch in the middle.";
const MARK = { hotspot: "#e69f00", chosen: "#0072b2" };

const { OpenSeadragon } = window;

export class Pane {
  /** host: the element to fill. events: moved, hovered, clicked, failed: called with the pane and what happened. */
  constructor(host, events) {
    this.host = host;
    this.events = events;
    this.spec = null;
    this.heatmap = null;
    this.outlines = null;
    this.marks = {};
    this.style = null;
    this.picture = host.querySelector(".picture");
    this.osd = new OpenSeadragon.Viewer({
      element: this.picture,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: true,
      navigatorPosition: "TOP_RIGHT",
      navigatorAutoFade: false,
      navigatorSizeRatio: 0.18,
      navigatorMaintainSizeRatio: true,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: false },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: false },
      gestureSettingsPen: { clickToZoom: false, dblClickToZoom: false },
      maxZoomPixelRatio: 8,
      minZoomImageRatio: 0.6,
      visibilityRatio: 0.4,
      animationTime: 0.4,
      imageLoaderLimit: 8,
    });
    this.overlay = document.createElement("canvas");
    this.overlay.className = "overlay";
    this.osd.canvas.append(this.overlay);
    this.listen();
  }

  listen() {
    this.osd.addHandler("update-viewport", () => this.draw());
    this.osd.addHandler("viewport-change", () => this.events.moved(this));
    this.osd.addHandler("animation-finish", () => this.events.rested(this));
    this.osd.addHandler("canvas-key", (event) => {
      // OpenSeadragon's own keys for flipping and rotating are not ours; n, p and h belong to the page
      if ("fFrR".includes(event.originalEvent.key)) event.preventDefaultAction = true;
    });
    this.osd.addHandler("canvas-click", (event) => {
      if (event.quick) this.events.clicked(this, this.placeAt(event.position));
    });
    this.picture.addEventListener("pointermove", (event) => {
      const box = this.picture.getBoundingClientRect();
      const point = new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top);
      this.events.hovered(this, this.placeAt(point));
    });
    this.picture.addEventListener("pointerleave", () => this.events.hovered(this, null));
    this.picture.addEventListener("keyup", () => this.host.classList.add("by-keys"));
    for (const kind of ["pointerdown", "focusout"]) {
      this.picture.addEventListener(kind, () => this.host.classList.remove("by-keys"), { capture: true });
    }
    for (const kind of ["pointerdown", "wheel", "keydown", "focusin"]) {
      this.host.addEventListener(kind, () => this.events.led(this), { capture: true, passive: true });
    }
  }

  /** Show what the server says of the first tile that does not come. */
  explain(error) {
    if (this.isExplained) return;
    this.isExplained = true;
    this.isDenied = error.isDenied;
    this.events.failed(this, error.message);
  }

  /** Show a slide and a model's heatmap of it; what is already there stays, and so does the view. */
  show(spec, view) {
    const before = this.spec ?? {};
    this.spec = spec;
    const isLate = this.isDenied && spec.token !== before.token; // tiles were asked for with one that had expired
    const isOpened = isLate || spec.tiles !== before.tiles;
    if (isLate) this.events.recovered(this);
    if (isOpened) this.open(isLate ? this.view() : view);
    if (isOpened || spec.heatmap !== before.heatmap) this.loadHeatmap();
    if (isOpened || spec.annotations !== before.annotations) this.loadOutlines();
    this.host.querySelector(".caption").textContent = spec.caption;
    this.osd.canvas.setAttribute("role", "application"); // what has the focus has the name
    this.osd.canvas.setAttribute("aria-label", `${spec.caption}. ${KEYS}`);
  }

  open(view) {
    const { tiles, width, height } = this.spec;
    this.isExplained = false;
    this.isDenied = false;
    this.heatmap = null;
    this.outlines = null;
    this.marks = {};
    this.osd.addOnceHandler("open", () => {
      if (view) this.goTo(view, true);
      this.draw();
    });
    this.osd.open({
      width,
      height,
      tileSize: TILE_PX,
      tileOverlap: OVERLAP_PX,
      minLevel: SMALLEST_LEVEL,
      maxLevel: Math.ceil(Math.log2(Math.max(width, height))),
      getTileUrl: (level, column, row) => `${tiles}/${level}/${column}_${row}.jpeg`,
      ...tileLoader(() => this.spec.token, (error) => this.explain(error)),
    });
  }

  async loadHeatmap() {
    const url = this.spec.heatmap;
    try {
      const heatmap = url ? new Heatmap(await fetchGrid(url, this.spec.token)) : null;
      if (url !== this.spec.heatmap) return; // another was asked for meanwhile
      this.heatmap = heatmap;
      this.restyle(this.style);
    } catch (error) {
      this.events.failed(this, error.message);
    }
  }

  async loadOutlines() {
    const url = this.spec.annotations;
    this.outlines = null;
    if (!url) return;
    try {
      const outlines = await fetchOutlines(url, this.spec.token);
      if (url !== this.spec.annotations) return;
      this.outlines = outlines;
      this.draw();
    } catch (error) {
      this.events.failed(this, error.message);
    }
  }

  /** Fetch how the model does on labelled patches, once. */
  async needOutcomes() {
    const { heatmap } = this;
    if (!heatmap || heatmap.outcomes || !this.spec.outcomes) return;
    try {
      heatmap.outcomes = await fetchGrid(this.spec.outcomes, this.spec.token);
      this.restyle(this.style);
    } catch (error) {
      this.events.failed(this, error.message);
    }
  }

  /** Color and draw anew. style: colormap, threshold, opacity, isSmooth, showOutcomes, showOutlines, isHidden. */
  restyle(style) {
    this.style = style;
    if (style.showOutcomes) this.needOutcomes();
    this.heatmap?.recolor(style);
    this.draw();
  }

  draw() {
    if (!this.style || !this.osd.isOpen()) return;
    const { width, height } = this.size();
    const ratio = window.devicePixelRatio || 1;
    if (this.overlay.width !== Math.round(width * ratio) || this.overlay.height !== Math.round(height * ratio)) {
      this.overlay.width = Math.round(width * ratio);
      this.overlay.height = Math.round(height * ratio);
    }
    const context = this.overlay.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const place = this.placement(ratio);
    const scale = Math.hypot(place[0], place[1]);
    if (!this.style.isHidden) {
      this.heatmap?.draw(context, place, this.style);
      if (this.style.showOutlines && this.outlines) drawOutlines(context, this.outlines, place, scale);
    }
    context.setTransform(...place);
    context.lineWidth = (3 * ratio) / scale;
    for (const [kind, box] of Object.entries(this.marks)) {
      if (!box) continue;
      context.strokeStyle = MARK[kind];
      context.strokeRect(box.x, box.y, box.span_x, box.span_y);
    }
    this.drawScale();
  }

  /** What maps level-0 pixels to the overlay's, as setTransform takes it; rotation included. */
  placement(ratio) {
    const { left, top } = this.spec;
    const at = (x, y) => this.osd.viewport.pixelFromPoint(
      this.osd.viewport.imageToViewportCoordinates(x - left, y - top), true);
    const [origin, right, down] = [at(0, 0), at(1000, 0), at(0, 1000)];
    const step = (point) => [(point.x - origin.x) / 1000, (point.y - origin.y) / 1000];
    return [...step(right), ...step(down), origin.x, origin.y].map((number) => number * ratio);
  }

  drawScale() {
    const bar = this.host.querySelector(".bar");
    const { mpp_x: mpp } = this.spec;
    if (!mpp) {
      bar.textContent = "No scale bar: nothing tells this slide's microns per pixel";
      return;
    }
    const { pixels, name } = scaleBar(this.zoom(), mpp);
    bar.textContent = name;
    bar.style.width = `${pixels}px`;
  }

  /** Screen pixels a level-0 pixel. */
  zoom() {
    return this.osd.viewport.viewportToImageZoom(this.osd.viewport.getZoom(true));
  }

  magnification() {
    return this.spec.mpp_x ? magnificationOf(this.zoom(), this.spec.mpp_x) : null;
  }

  /** Centre, level-0 pixels, and zoom of what is on view. */
  view() {
    const centre = this.osd.viewport.viewportToImageCoordinates(this.osd.viewport.getCenter(true));
    return { x: centre.x + this.spec.left, y: centre.y + this.spec.top, zoom: this.zoom() };
  }

  /** Whether a person moves it by keys: then its middle is what the pointer is for others. */
  isSteeredByKeys() {
    return this.host.classList.contains("by-keys");
  }

  /** Level-0 pixels of a point of the picture, screen pixels from its corner. */
  placeAt(point) {
    const { viewport } = this.osd;
    if (!this.osd.isOpen()) return null;
    const place = viewport.viewportToImageCoordinates(viewport.pointFromPixel(point, true));
    return { x: place.x + this.spec.left, y: place.y + this.spec.top };
  }

  goTo({ x, y, zoom }, isImmediate = false) {
    const { viewport } = this.osd;
    const centre = viewport.imageToViewportCoordinates(x - this.spec.left, y - this.spec.top);
    viewport.zoomTo(viewport.imageToViewportZoom(zoom), undefined, isImmediate);
    viewport.panTo(centre, isImmediate);
  }

  zoomTo(zoom) {
    this.osd.viewport.zoomTo(this.osd.viewport.imageToViewportZoom(zoom));
    this.osd.viewport.applyConstraints();
  }

  /** Go to a patch, and mark it. */
  goToPatch(patch) {
    const { width, height } = this.size();
    const zoom = Math.min(width, height) / (PATCHES_ACROSS * Math.max(patch.span_x, patch.span_y));
    this.marks.hotspot = patch;
    this.goTo({ x: patch.x + patch.span_x / 2, y: patch.y + patch.span_y / 2, zoom });
    this.draw();
  }

  goHome() {
    this.osd.viewport.goHome();
  }

  rotate(degrees) {
    this.osd.viewport.rotateBy(degrees);
  }

  size() {
    return { width: this.picture.clientWidth, height: this.picture.clientHeight };
  }

  /** The canvases that together show the view. */
  layers() {
    return [this.osd.drawer.canvas, this.overlay];
  }

  /** What an exported picture says of the pane: a line each. */
  facts() {
    const { x, y } = this.view();
    const magnification = this.magnification();
    const scale = magnification ? `, ${magnification.toPrecision(3)}x` : "";
    return [...this.spec.facts, `Centre ${Math.round(x)}, ${Math.round(y)} level-0 px${scale}`];
  }

  close() {
    this.osd.destroy();
  }
}
