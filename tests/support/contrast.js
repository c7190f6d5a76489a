// The texts on the page whose contrast with what is behind them is below 4.5 to 1 (WCAG 2 AA), with that ratio.
const rgb = (text) => {
  const m = text.match(/color\(srgb ([\d.]+) ([\d.]+) ([\d.]+)(?: \/ ([\d.]+))?\)/);
  if (m) return [255 * m[1], 255 * m[2], 255 * m[3], m[4] === undefined ? 1 : +m[4]];
  const n = text.match(/[\d.]+/g).map(Number);
  return [n[0], n[1], n[2], n[3] ?? 1];
};
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const light = (c) => {
  const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, one = node.parentElement;
  if (!node.data.trim() || one.closest("script, style")) continue;
  if (!one.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
  const box = one.getBoundingClientRect();
  if (box.width < 2 || box.height < 2) continue;
  const layers = [];
  for (let o = one; o; o = o.parentElement) layers.push(rgb(getComputedStyle(o).backgroundColor));
  const back = layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  const front = over(rgb(getComputedStyle(one).color), back);
  const [a, b] = [light(front), light(back)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) found.push(`${node.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
}
return found;
