"use strict";
// The settings of a page of a language model: those of `app chat`, with the same words. Each shows its value.

const LABELS = {
  temperature: ["Sampling temperature", "0 is greedy: always the most likely token.", 0, 2, 0.01],
  topK: ["Top-k", "Sample from this many of the most likely tokens only; 0 is all.", 0, 200, 1],
  maxNewTokens: ["Maximum new tokens of an answer", "", 1, settings.positions, 1],
  topP: [
    "Top-p (nucleus sampling)",
    "Sample from the most likely tokens that together have this probability; 1 is all.", 0.05, 1, 0.01,
  ],
  repetitionPenalty: ["Repetition penalty", "Above 1, tokens that occurred before become less likely.", 1, 2, 0.01],
};
const SEED = ["Random seed", "The same seed gives the same text; empty is another one each time."];
const SYSTEM = "System message: what the prompt begins with";
const REMEMBER = "Read earlier questions too";
const SINGLE = "The model was trained on single questions.";
const THRESHOLD = "Threshold of the confidence: other wordings that are not above it are refused";

/** Puts the settings of the page's mode into `place`; returns a function that reads them. */
function addOptions(place) {
  const reads = {};
  const add = (name, [label, input, info], read) => {
    input.id = `option-${name}`;
    place.append(label, input);
    label.htmlFor = input.id;
    if (info) {
      const hint = element("p", "quiet", info);
      hint.id = `${input.id}-info`;
      input.setAttribute("aria-describedby", hint.id);
      place.append(hint);
    }
    reads[name] = () => read(input);
  };
  if (settings.mode === "faq") {
    add("threshold", slider(THRESHOLD, settings.thresholdInfo, 0, 1, 0.001, settings.faq.threshold), numberOf);
  } else {
    for (const [name, label] of Object.entries(LABELS)) add(name, slider(...label, settings.saved[name]), numberOf);
    add("seed", numberBox(...SEED), (input) => (input.value === "" ? null : Math.trunc(input.valueAsNumber)));
  }
  if (settings.mode === "chat") {
    add("system", textBox(SYSTEM, settings.preamble), systemOf);
    add("history", checkBox(REMEMBER, settings.history ? "" : SINGLE, settings.history), (input) => input.checked);
  }
  return () => Object.fromEntries(Object.entries(reads).map(([name, read]) => [name, read()]));
}

const numberOf = (input) => input.chosen; // a value that nobody moved is exact, whatever the slider's steps

/** The system message, "" where it is the sentence that the prompt begins with anyway. */
function systemOf(input) {
  const system = input.value.trim();
  return system === settings.preamble ? "" : system;
}

function slider(text, info, least, most, step, value) {
  const shown = element("output");
  const label = element("label", "", `${text}: `);
  label.append(shown);
  const input = Object.assign(element("input"), { type: "range", min: least, max: most, step, value });
  const choose = (chosen) => {
    input.chosen = chosen;
    shown.textContent = String(Math.round(1000 * chosen) / 1000);
  };
  input.addEventListener("input", () => choose(input.valueAsNumber));
  choose(value);
  return [label, input, info];
}

function numberBox(text, info) {
  return [element("label", "", text), Object.assign(element("input"), { type: "number", min: 0, step: 1 }), info];
}

function textBox(text, value) {
  return [element("label", "", text), Object.assign(element("textarea"), { rows: 2, value, dir: "auto" }), ""];
}

function checkBox(text, info, checked) {
  return [element("label", "", text), Object.assign(element("input"), { type: "checkbox", checked }), info];
}

/** An element with a class and a text. */
function element(kind, className = "", text = "") {
  return Object.assign(document.createElement(kind), { className, textContent: text });
}
