/** A slide's probabilities as a grid of bytes: fetched once, colored by a table of 256 entries, drawn on a canvas. */

import { colors } from "./colormaps.js";
import { ask } from "./server.js";

const LEVELS = 254; // steps of a probability: byte 0 is no patch, 1 to 255 are 0 to 1

/** By the server's byte; colors of Okabe and Ito, told apart with every common color blindness. */
export const OUTCOMES = {
  4: { name: "true positive", color: [0, 114, 178] },
  2: { name: "false positive", color: [230, 159, 0] },
  3: { name: "false negative", color: [204, 121, 167] },
};

/** Fetch a grid: its bytes, and where they are on the slide. Throws as `ask`. */
export async function fetchGrid(url, token) {
  const response = await ask(url, token);
  const place = JSON.parse(response.headers.get("Histolake-Grid"));
  return { ...place, bytes: new Uint8Array(await response.arrayBuffer()) };
}

/** RGBA, as 32 bits, of every byte: nothing below the threshold. */
function probabilityTable(colormap, threshold) {
  const rgb = colors(colormap);
  const table = new Uint32Array(256);
  for (let byte = 1; byte < 256; byte += 1) {
    const probability = (byte - 1) / LEVELS;
    if (probability < threshold) continue;
    const at = 3 * Math.round(probability * 255);
    table[byte] = rgba(rgb[at], rgb[at + 1], rgb[at + 2]);
  }
  return table;
}

/** RGBA, as 32 bits, of every outcome's byte: true negatives are left as they are. */
function outcomeTable() {
  const table = new Uint32Array(256);
  for (const [byte, { color }] of Object.entries(OUTCOMES)) table[byte] = rgba(...color);
  return table;
}

function rgba(red, green, blue) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // little-endian, as every browser's machine is
}

export class Heatmap {
  constructor(grid) {
    this.grid = grid;
    this.outcomes = null;
    this.canvas = document.createElement("canvas");
    this.canvas.width = grid.columns;
    this.canvas.height = grid.rows;
    this.context = this.canvas.getContext("2d");
    this.image = this.context.createImageData(grid.columns, grid.rows);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  /** Color every cell anew; what is drawn later looks like this. */
  recolor({ colormap, threshold, showOutcomes }) {
    const isOfOutcomes = showOutcomes && this.outcomes;
    const { bytes } = isOfOutcomes ? this.outcomes : this.grid;
    const table = isOfOutcomes ? outcomeTable() : probabilityTable(colormap, threshold);
    for (let cell = 0; cell < bytes.length; cell += 1) this.pixels[cell] = table[bytes[cell]];
    this.context.putImageData(this.image, 0, 0);
  }

  /** Draw the cells; `place` maps level-0 pixels to the canvas, as [a, b, c, d, e, f] of setTransform. */
  draw(context, place, { opacity, isSmooth }) {
    const [a, b, c, d, e, f] = place;
    const { x, y, step_x: stepX, step_y: stepY } = this.grid;
    context.save();
    context.setTransform(a * stepX, b * stepX, c * stepY, d * stepY, a * x + c * y + e, b * x + d * y + f);
    context.globalAlpha = opacity;
    context.imageSmoothingEnabled = isSmooth;
    context.drawImage(this.canvas, 0, 0);
    context.restore();
  }

  /** Probability at a place, level-0 pixels; null where no patch is. */
  probabilityAt(x, y) {
    const { columns, rows } = this.grid;
    const column = Math.floor((x - this.grid.x) / this.grid.step_x);
    const row = Math.floor((y - this.grid.y) / this.grid.step_y);
    if (column < 0 || row < 0 || column >= columns || row >= rows) return null;
    const byte = this.grid.bytes[row * columns + column];
    return byte ? (byte - 1) / LEVELS : null;
  }
}
