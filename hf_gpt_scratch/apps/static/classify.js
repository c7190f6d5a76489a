"use strict";
// The page of a classifier: judges the message as it is typed.

const MOST_CHARACTERS = 10_000;
const PAUSE = 1000; // milliseconds without a key after which the verdict is read aloud
const at = (id) => document.getElementById(id);
const { names, isBinary, isMultiLabel, examples, longTexts, positions } = settings;
let shown = null; // what the model said last
let wanted = null, isJudging = false, pause;

start().then((asked) => {
  if (!asked) return;
  window.model = asked; // for the console: await model.ask("judge", ["You have won a prize"])
  at("judging").hidden = false;
  at("threshold-of").hidden = !isBinary;
  at("threshold").value = settings.threshold;
  at("threshold-label").textContent = `Threshold: a message above it is called ${names[1]}`;
  at("threshold").addEventListener("input", () => shown && show(shown));
  at("message").addEventListener("input", () => judge(asked, at("message").value));
  addExamples(asked);
  if (!at("message").value && examples.length) at("message").value = examples[0];
  judge(asked, at("message").value);
});

function addExamples(asked) {
  at("examples").hidden = !examples.length;
  for (const text of examples) {
    const button = make("button", { class: "example", type: "button" }, text);
    button.addEventListener("click", () => {
      at("message").value = text;
      judge(asked, text);
      if (window.innerWidth < 700) at("verdict").scrollIntoView({ block: "center" });
    });
    at("examples").querySelector(".examples").append(button);
  }
}

// Judges the newest text: one that comes while another is read takes its place.
async function judge(asked, text) {
  wanted = text;
  if (isJudging) return asked.ask("stop");
  isJudging = true;
  try {
    while (wanted !== null) {
      const next = wanted;
      wanted = null;
      show(await verdictOn(asked, next));
    }
  } catch (error) {
    shown = null;
    showProblem(error);
  } finally {
    isJudging = false;
  }
}

async function verdictOn(asked, text) {
  const problem = at("problem"), length = Array.from(text).length;
  problem.hidden = true;
  if (!text.isWellFormed()) return refused("A message is not UTF-8 text.");
  if (length > MOST_CHARACTERS) {
    const [given, most] = [length, MOST_CHARACTERS].map((number) => number.toLocaleString("en"));
    return refused(`The text has ${given} characters; the page reads ${most}.`);
  }
  return asked.ask("judge", [text], show);
}

function refused(sentence) {
  showProblem(new Error(sentence));
  return null;
}

function show(found) {
  if (found === undefined) return; // a newer text came
  shown = found;
  clearTimeout(pause);
  if (!found?.words.length) {
    at("verdict").replaceChildren();
    at("reading-of").replaceChildren();
    at("said").textContent = "";
    return;
  }
  const notes = notesOn(found), threshold = Number(at("threshold").value), colours = new Colours(names, found.words);
  const [verdict, sentence] = isBinary
    ? binaryVerdict(names, found.verdict.probability, threshold, notes)
    : labelsVerdict(found, names, colours, notes);
  at("verdict").replaceChildren(verdict);
  at("reading-of").replaceChildren(
    ...(isBinary ? binaryWords(found.words, threshold, names) : labelWords(found.words, colours, isMultiLabel)));
  pause = setTimeout(() => { at("said").textContent = sentence; }, PAUSE);
}

function notesOn(found) {
  const notes = [];
  if (found.decidedAt !== null && found.decidedAt < found.words.length) {
    const { label } = found.words[found.decidedAt - 1];
    notes.push(`Decided after ${found.decidedAt} of ${found.words.length} words: ${label}, as good as final.`);
  }
  if (found.isCut) {
    notes.push(`The message is too long for the model; only its ${longTexts} ${positions} tokens were read.`);
  }
  return notes;
}

function chooseWord(word) {
  const root = at("reading-of");
  root.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
  root.querySelectorAll("#words .word").forEach((one) => { one.tabIndex = one === word ? 0 : -1; });
  word.classList.add("chosen");
  root.querySelector(`.point[data-number="${word.dataset.number}"]`)?.classList.add("chosen");
  at("reading").textContent = word.getAttribute("aria-label");
}

document.addEventListener("click", (event) => {
  const one = event.target.closest("#words .word, .curve .point");
  if (one) chooseWord(document.querySelector(`#words .word[data-number="${one.dataset.number}"]`));
});

document.addEventListener("keydown", (event) => {
  const word = event.target.closest("#words .word");
  if (!word || event.ctrlKey || event.altKey || event.metaKey) return;
  const words = [...word.parentElement.children], number = words.indexOf(word);
  const next = {
    ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: words.length - 1, Enter: number, " ": number,
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  if (!words[next]) return;
  words[next].focus();
  chooseWord(words[next]);
});
