// The texts of the page that are shown with less contrast than 4.5, by WCAG 2: [text, contrast].
() => {
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => {
    const [red, green, blue] = color.map((value) => channel(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const parse = (text) => {
    const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [red * scale, green * scale, blue * scale, alpha];
  };
  const over = (color, ground) => ground.map((value, i) => color[3] * color[i] + (1 - color[3]) * value);
  const around = (element) => (element ? [...around(element.parentElement), element] : []);
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const box = element.getBoundingClientRect();
    const shown = element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    const text = walk.currentNode.textContent.trim();
    if (!text || !shown || box.width < 2 || element.closest("[disabled], [aria-disabled=true], style, script")) continue;
    const styles = around(element).map((each) => getComputedStyle(each));
    const ground = styles.reduce((below, style) => over(parse(style.backgroundColor), below), [255, 255, 255]);
    const color = parse(styles.at(-1).color);
    color[3] *= styles.reduce((product, style) => product * Number(style.opacity), 1);
    const [dark, light] = [luminance(over(color, ground)), luminance(ground)].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) faint.push([text, contrast]);
  }
  return faint;
}
