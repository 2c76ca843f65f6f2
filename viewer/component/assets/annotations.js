/** Outlines that somebody drew on the slide. */

import { ask } from "./server.js";

const STROKES = { tumor: "#d00000", normal: "#0072b2", exclusion: "#5c636e", none: "#b0347c" };
const HALO = "rgba(255, 255, 255, 0.85)"; // so that a line shows on dark and on light tissue
const DASHES = { tumor: [], normal: [], exclusion: [8, 5], none: [2, 4] }; // color is not all that tells them apart

/** Fetch a slide's outlines as paths in level-0 pixels. Throws as `ask`. */
export async function fetchOutlines(url, token) {
  const response = await ask(url, token);
  const { shapes } = await response.json();
  return shapes.map(({ meaning, rings }) => ({ meaning, path: pathOf(rings) }));
}

function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    path.moveTo(ring[0], ring[1]);
    for (let at = 2; at < ring.length; at += 2) path.lineTo(ring[at], ring[at + 1]);
    path.closePath();
  }
  return path;
}

/** Draw outlines; `place` maps level-0 pixels to the canvas, `scale` is canvas pixels a level-0 pixel. */
export function drawOutlines(context, outlines, place, scale) {
  context.save();
  context.setTransform(...place);
  for (const [width, isHalo] of [[4.5, true], [2, false]]) {
    context.lineWidth = width / scale;
    for (const { meaning, path } of outlines) {
      context.strokeStyle = isHalo ? HALO : STROKES[meaning];
      context.setLineDash(isHalo ? [] : DASHES[meaning].map((length) => length / scale));
      context.stroke(path);
    }
  }
  context.restore();
}
