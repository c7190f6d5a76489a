"use strict";
// What is shown of a text: the verdict, the words in colours and the curve, as on the page of `app classify` (words.py
// and label_words.py). Text goes into the page as text, never as HTML.

const COLOURS = 8; // labels; of more, the likeliest in a text, and the others together in grey
const LISTED = 6; // labels in the verdict
const LABELS_ON_AXIS = 14; // words; of a longer text only every second, third ... is written below the curve

const percent = (one) => `${(100 * one).toFixed(1)}%`;
const whole = (one) => String(Math.round(100 * one));
const svg = "http://www.w3.org/2000/svg";

// An element with attributes, `style` as an object, and children.
function make(kind, { style = {}, ...attributes } = {}, ...children) {
  const space = ["svg", "polyline", "polygon"].includes(kind) ? svg : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(space, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// The verdict of one of two labels: [what is shown, the sentence that is read aloud].
function binaryVerdict(names, probability, threshold, notes) {
  const label = Number(probability > threshold), side = label ? "above" : "not above";
  const text = `${percent(probability)} ${names[1]}, ${side} the threshold of ${percent(threshold)}.`;
  return [make("div", {},
    make("div", { class: `answer label-${label}` }, names[label]), make("div", {}, text), ...notesBelow(notes)),
  [names[label], text, ...notes].join(". ")];
}

function labelsVerdict(found, names, colours, notes) {
  const said = found.verdict.labels.join(", ") || found.verdict.label;
  const ranked = names.map((name, label) => [found.probabilities[label], name]).sort((a, b) => b[0] - a[0]);
  const rows = ranked.slice(0, LISTED).flatMap(([one, name]) => [
    make("span", { class: found.verdict.labels.includes(name) ? "name said" : "name" }, name),
    make("span", {
      class: "bar", "aria-hidden": "true", style: { "--tint": colours.tint(name), width: percent(one) },
    }),
    make("span", {}, percent(one)),
  ]);
  const rest = names.length - LISTED;
  const tint = colours.tint(found.verdict.labels[0]);
  return [make("div", {},
    make("div", { class: "answer tinted", style: { "--tint": tint } }, said),
    make("div", { class: "labels" }, ...rows),
    rest > 0 ? make("div", { class: "quiet" }, `and ${rest} less likely label${rest > 1 ? "s" : ""}`) : null,
    ...notesBelow(notes)),
  [`${said} ${percent(ranked[0][0])}`, ...notes].join(". ")];
}

const notesBelow = (notes) => notes.map((note) => make("div", { class: "note" }, note));

// A colour for each of the labels of a text: those of many labels that are nowhere likely share the grey one.
class Colours {
  constructor(names, words) {
    this.names = names;
    let order = names.map((_, label) => label);
    if (names.length > COLOURS) {
      const highest = order.map((label) => Math.max(0, ...words.map((one) => one.probabilities[label])));
      order = [...order].sort((a, b) => highest[b] - highest[a]).slice(0, COLOURS).sort((a, b) => a - b);
    }
    this.order = order;
  }

  tint(name) {
    const colour = this.order.indexOf(this.names.indexOf(name));
    return `var(--colour-${colour < 0 ? "other" : colour})`;
  }

  get hasOthers() { return this.order.length < this.names.length; }

  shares(probabilities) {
    const shown = this.order.map((label) => probabilities[label]);
    const sum = (values) => values.reduce((total, one) => total + one, 0);
    return this.hasOthers ? [...shown, Math.max(0, sum(probabilities) - sum(shown))] : shown;
  }

  shown() {
    const known = this.order.map((label, colour) => [this.names[label], `var(--colour-${colour})`]);
    return this.hasOthers ? [...known, ["other labels", "var(--colour-other)"]] : known;
  }
}

// The legend, the words on blue (label 0) to orange (label 1), each with its number, and the curve.
function binaryWords(words, threshold, names) {
  const legend = make("div", { class: "legend" },
    make("span", {}, `${names[0]} 0%`), make("span", { class: "bar", "aria-hidden": "true" }),
    make("span", {}, `100% ${names[1]}`));
  const hint = `The number below a word is the probability of ${names[1]}, in percent, after reading up to that ` +
    "word. Words where it is above the threshold are bold, with a bar below.";
  const shown = words.map(({ word, probability }, place) => wordButton(place, word, probability, {
    "--tint": `var(--label-${Number(probability > 0.5)})`,
    "--strength": `${Math.min(100, Math.round(200 * Math.abs(probability - 0.5)))}%`,
  }, `${percent(probability)} ${names[1]}`, probability > threshold));
  return [legend, ...wordsAndHint(shown, hint), ...binaryCurve(words, threshold, names)];
}

function labelWords(words, colours, isMultiLabel) {
  const key = make("div", { class: "key" },
    ...colours.shown().map(([name, tint]) => make("span", { style: { "--tint": tint } }, name)));
  const hint = "A word has the colour of the label after reading up to it; below it stands the probability, in " +
    "percent.";
  const shown = words.map(({ word, probability, label, labels }, place) => wordButton(place, word, probability, {
    "--tint": colours.tint(labels[0]), "--strength": `${whole(probability)}%`,
  }, `${labels.join(", ") || label} ${percent(probability)}`));
  return [key, ...wordsAndHint(shown, hint), ...labelCurve(words, colours, isMultiLabel)];
}

function wordButton(place, word, probability, style, said, isAbove = false) {
  return make("span", {
    class: isAbove ? "word above" : "word", role: "button", style, tabindex: place ? -1 : 0, "data-number": place + 1,
    "data-percent": whole(probability), "aria-label": `After word ${place + 1}, “${word.trim()}”: ${said}`,
  }, word.trim());
}

function wordsAndHint(shown, hint) {
  const spaced = shown.flatMap((one) => [one, " "]).slice(0, -1);
  return [
    make("div", {
      id: "words", dir: "auto", role: "toolbar", "aria-label": "Words; the arrow keys move from one to the next",
    }, ...spaced),
    make("div", { id: "reading", "aria-live": "polite" }, "Tap a word to find it in the curve."),
    make("div", { class: "quiet" }, hint),
  ];
}

const across = (words) => words.map((_, place) => (100 * (place + 0.5)) / words.length);

function binaryCurve(words, threshold, names) {
  const at = across(words), height = words.map(({ probability }) => 100 * probability);
  const line = at.map((x, place) => `${x.toFixed(2)},${(100 - height[place]).toFixed(2)}`).join(" ");
  const points = at.map((x, place) => make("span", {
    class: words[place].probability > threshold ? "point one" : "point", "data-number": place + 1,
    style: { left: `${x.toFixed(2)}%`, bottom: `${height[place].toFixed(2)}%` },
  }));
  const limit = make("div", {
    class: threshold > 0.85 ? "threshold high" : "threshold", style: { bottom: percent(threshold) },
  }, make("span", {}, `threshold ${percent(threshold)}`));
  const said = `Curve of the probability of ${names[1]} over ${words.length} words: ` +
    `${percent(words[0].probability)} after the first, ${percent(words.at(-1).probability)} at the end.`;
  const drawn = [limit, drawing(make("polyline", { points: line })), ...points];
  return withAxis(words, `Probability of ${names[1]} after each word`, said, drawn);
}

// The probabilities after each word: one on top of the other where they share one text out, else a line for each.
function labelCurve(words, colours, isMultiLabel) {
  const at = across(words), rows = words.map(({ probabilities }) => colours.shares(probabilities));
  const drawn = isMultiLabel ? lines(at, rows, colours) : bands(at, rows, colours);
  const points = at.map((x, place) => make("span", {
    class: "point label", "data-number": place + 1, style: { left: `${x.toFixed(2)}%`, bottom: "0%" },
  }));
  const first = words[0], last = words.at(-1);
  const said = `Curve of the labels' probabilities over ${words.length} words: ${first.label} ` +
    `${percent(first.probability)} after the first, ${last.label} ${percent(last.probability)} at the end.`;
  const title = `${isMultiLabel ? "Probability" : "Share"} of each label after each word`;
  return withAxis(words, title, said, [drawing(...drawn), ...points]);
}

function bands(at, rows, colours) {
  let floor = at.map(() => 0);
  return colours.shown().map(([, tint], number) => {
    const top = rows.map((row, place) => floor[place] + row[number]), back = [...at.keys()].reverse();
    const outline = [[0, top[0]], ...at.map((x, place) => [x, top[place]]), [100, top.at(-1)], [100, floor.at(-1)],
      ...back.map((place) => [at[place], floor[place]]), [0, floor[0]]];
    floor = top;
    return shape("polygon", outline, tint);
  });
}

function lines(at, rows, colours) {
  const shown = colours.shown().slice(0, colours.order.length);
  return shown.map(([, tint], number) => shape("polyline", at.map((x, place) => [x, rows[place][number]]), tint));
}

function shape(kind, points, tint) {
  const places = points.map(([x, y]) => `${x.toFixed(2)},${(100 - 100 * Math.min(y, 1)).toFixed(2)}`).join(" ");
  return make(kind, { class: "label", points: places, style: { "--tint": tint } });
}

const drawing = (...shapes) =>
  make("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, ...shapes);

// A curve with its title above it and its words below it, which never overlap.
function withAxis(words, title, said, drawn) {
  const step = Math.ceil(words.length / LABELS_ON_AXIS), at = across(words);
  const ordinal = { 2: "second", 3: "third" }[step] ?? `${step}th`;
  const short = (word) => (Array.from(word).length <= 12 ? word : `${Array.from(word).slice(0, 11).join("")}…`);
  const grid = [0, 50, 100].map((y) => `${y}%`).map((y) =>
    make("div", { class: "grid", style: { bottom: y } }, make("span", {}, y)));
  const labels = words.flatMap(({ word }, place) =>
    place % step ? [] : [make("span", { style: { left: `${at[place].toFixed(2)}%` } }, short(word.trim()))]);
  return [
    make("div", { class: "of-axis" }, step === 1 ? title : `${title} (every ${ordinal} word is written)`),
    make("div", { class: "curve", id: "curve", role: "img", "aria-label": said }, ...grid, ...drawn),
    make("div", { class: "axis", "aria-hidden": "true" }, ...labels),
  ];
}
