/** What the colors say, in numbers. */

import { colors } from "./colormaps.js";
import { OUTCOMES } from "./heatmap.js";

const BAR_HEIGHT = 14;
const TICKS = [0, 0.25, 0.5, 0.75, 1];

/** Draw the legend, 62 px high, at (left, top): the color bar with its ticks, or what outcomes look like. */
export function drawLegend(context, left, top, width, style, ink) {
  context.font = "13px sans-serif";
  context.textBaseline = "top";
  if (style.showOutcomes) drawOutcomes(context, left, top, ink);
  else drawColorBar(context, left, top, width, style, ink);
}

function drawOutcomes(context, left, top, ink) {
  Object.values(OUTCOMES).forEach(({ name, color }, row) => {
    context.fillStyle = `rgb(${color.join(",")})`;
    context.fillRect(left, top + row * 20, 14, 14);
    context.fillStyle = ink;
    context.textAlign = "left";
    context.fillText(name, left + 22, top + row * 20);
  });
}

function drawColorBar(context, left, top, width, { colormap, threshold }, ink) {
  const rgb = colors(colormap);
  const start = top + 20;
  context.fillStyle = ink;
  context.textAlign = "left";
  context.fillText("tumor probability", left, top);
  for (let x = Math.round(threshold * width); x < width; x += 1) {
    const at = 3 * Math.round((x / (width - 1)) * 255);
    context.fillStyle = `rgb(${rgb[at]},${rgb[at + 1]},${rgb[at + 2]})`;
    context.fillRect(left + x, start, 1, BAR_HEIGHT);
  }
  context.strokeStyle = ink;
  context.lineWidth = 1;
  context.strokeRect(left + 0.5, start + 0.5, width - 1, BAR_HEIGHT - 1);
  context.fillStyle = ink;
  for (const share of TICKS) {
    context.fillRect(left + share * (width - 1), start + BAR_HEIGHT, 1, 4);
    context.textAlign = { 0: "left", 1: "right" }[share] ?? "center";
    context.fillText(String(share), left + share * (width - 1), start + BAR_HEIGHT + 6);
  }
}
