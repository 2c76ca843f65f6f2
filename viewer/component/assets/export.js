/** The view as a PNG file that says what it shows. */

import { drawLegend } from "./legend.js";
import { scaleBar } from "./scale.js";

const PAPER = "#ffffff";
const INK = "#1c2026";
const BANNER_PAPER = "#7a161e"; // as the command line's heatmaps have it
const FONT = "sans-serif";
const LINE = 20;
const MARGIN = 16;
const BANNER_HEIGHT = 36;

/** Draw the panes side by side, each over what it shows, and the banner below them all. Returns a canvas. */
export function drawExport(panes, style, banner) {
  const ratio = window.devicePixelRatio || 1;
  const sizes = panes.map((pane) => pane.size());
  const gap = 8;
  const width = sizes.reduce((sum, size) => sum + size.width, 0) + gap * (panes.length - 1);
  const height = Math.max(...sizes.map((size) => size.height));
  const captions = panes.map((pane, index) => wrapped(pane.facts(), sizes[index].width - 2 * MARGIN));
  const captionHeight = Math.max(...captions.map((lines) => lines.length)) * LINE + 92;

  const canvas = document.createElement("canvas");
  canvas.width = width * ratio;
  canvas.height = (height + captionHeight + BANNER_HEIGHT) * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = PAPER;
  context.fillRect(0, 0, width, height + captionHeight + BANNER_HEIGHT);
  let left = 0;
  panes.forEach((pane, index) => {
    for (const layer of pane.layers()) context.drawImage(layer, left, 0, sizes[index].width, sizes[index].height);
    context.fillStyle = INK;
    context.font = `14px ${FONT}`;
    context.textBaseline = "top";
    context.textAlign = "left";
    captions[index].forEach((line, row) => context.fillText(line, left + MARGIN, height + 10 + row * LINE));
    const below = height + 16 + captions[index].length * LINE;
    if (pane.heatmap) drawLegend(context, left + MARGIN, below, 240, style, INK);
    drawBar(context, pane, left + sizes[index].width - MARGIN, below);
    left += sizes[index].width + gap;
  });
  context.fillStyle = BANNER_PAPER;
  context.fillRect(0, height + captionHeight, width, BANNER_HEIGHT);
  context.fillStyle = PAPER;
  context.font = `bold 16px ${FONT}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(banner, width / 2, height + captionHeight + BANNER_HEIGHT / 2);
  return canvas;
}

function drawBar(context, pane, right, top) {
  context.fillStyle = INK;
  context.font = `13px ${FONT}`;
  context.textBaseline = "top";
  if (!pane.spec.mpp_x) {
    context.textAlign = "right";
    context.fillText("no microns per pixel: no scale bar", right, top);
    return;
  }
  const { pixels, name } = scaleBar(pane.zoom(), pane.spec.mpp_x);
  context.textAlign = "center";
  context.fillText(name, right - pixels / 2, top);
  context.fillRect(right - pixels, top + 20, pixels, 5);
}

function wrapped(facts, width) {
  const context = document.createElement("canvas").getContext("2d");
  context.font = `14px ${FONT}`;
  const lines = [];
  for (const fact of facts) {
    let line = "";
    for (const word of fact.split(" ")) {
      const longer = line ? `${line} ${word}` : word;
      if (line && context.measureText(longer).width > width) {
        lines.push(line);
        line = word;
      } else {
        line = longer;
      }
    }
    lines.push(line);
  }
  return lines;
}

/** Let the browser save the canvas as a PNG file. */
export function save(canvas, name) {
  const link = document.createElement("a");
  link.href = canvas.toDataURL("image/png");
  link.download = name;
  link.click();
}
