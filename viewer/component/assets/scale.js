/** Lengths: microns on the screen, and what a microscope would call the magnification. */

const MICRONS_AT_1X = 10; // a pixel of 0.25 microns is called 40x
const LONGEST_BAR = 180; // screen pixels

/** Screen pixels a level-0 pixel at which the slide looks as at that magnification. */
export function zoomFor(magnification, mpp) {
  return (mpp * magnification) / MICRONS_AT_1X;
}

/** The magnification that a zoom (screen pixels a level-0 pixel) amounts to. */
export function magnificationOf(zoom, mpp) {
  return (zoom * MICRONS_AT_1X) / mpp;
}

/** The longest round length that fits, 1, 2 or 5 times a power of ten: its screen pixels, and its name. */
export function scaleBar(zoom, mpp) {
  const micronsPerPixel = mpp / zoom;
  const longest = LONGEST_BAR * micronsPerPixel;
  const power = 10 ** Math.floor(Math.log10(longest));
  const microns = [5, 2, 1].map((factor) => factor * power).find((length) => length <= longest * (1 + 1e-9));
  return { pixels: microns / micronsPerPixel, name: lengthName(microns) };
}

function lengthName(microns) {
  if (microns >= 1000) return `${+(microns / 1000).toPrecision(3)} mm`;
  if (microns >= 1) return `${+microns.toPrecision(3)} µm`;
  return `${+(microns * 1000).toPrecision(3)} nm`;
}
