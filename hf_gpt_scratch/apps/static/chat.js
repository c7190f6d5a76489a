"use strict";
// The page of a language model, in one of three modes: a conversation ("chat"), questions to a bot of an FAQ ("faq"),
// or texts that the model continues ("write"). What is said stands in `exchanges` while the tab is open, nowhere else.

const MOST_CHARACTERS = 10_000; // as on the page of `app chat`
const TOO_LONG = "The conversation is too long; its oldest part was dropped.";
const CUT_OFF = "The answer was cut off at the maximum number of new tokens.";
const GREEDY =
  "Greedy decoding always gives the same answer; raise the sampling temperature in the settings for another one.";
const WORDS = {
  chat: ["Question", "Ask", "New chat", "Questions that it has answered correctly:"],
  faq: ["Question", "Ask", "New chat", "Questions that it knows:"],
  write: ["The beginning of a text", "Continue", "New text", ""],
};
const at = (id) => document.getElementById(id);
let exchanges = []; // of this conversation: {text, input, answer}
let isOpen = null; // the promise of the answer under way
let readOptions;

start().then(async (asked) => {
  if (!asked) return;
  await asked.ask("open", [settings]);
  window.model = asked; // for the console: await model.ask("prompt", [[{ role: "user", content: "Hello" }]])
  const [question, ask, anew, examples] = WORDS[settings.mode];
  Object.entries({ "question-label": question, ask, new: anew, "examples-label": examples }).forEach(
    ([id, text]) => (at(id).textContent = text),
  );
  readOptions = addOptions(at("of-options"));
  at("input-of").hidden = !settings.takesInput;
  addExamples(asked);
  listen(asked);
  at("chatting").hidden = false;
  at("question").focus({ preventScroll: true });
}).catch(showProblem);

function listen(asked) {
  const send = () => say(asked, at("question").value, at("input").value);
  at("ask").addEventListener("click", send);
  at("stop").addEventListener("click", () => interrupt(asked));
  at("again").addEventListener("click", () => sayAgain(asked));
  at("new").addEventListener("click", () => beginAnew(asked));
  for (const box of [at("question"), at("input")]) {
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      send();
    });
  }
  document.addEventListener("keydown", (event) => event.key === "Escape" && interrupt(asked));
}

function addExamples(asked) {
  at("examples").hidden = !settings.examples.length;
  for (const [text, input] of settings.examples) {
    const button = element("button", "example", input ? `${text}\n${input}` : text);
    button.type = "button";
    button.addEventListener("click", () => say(asked, text, input, false));
    at("examples").querySelector(".examples").append(button);
  }
}

/** Ends the answer under way, as far as it came. */
async function interrupt(asked) {
  while (isOpen) {
    asked.ask("stop");
    await isOpen.catch(() => {});
  }
}

async function beginAnew(asked) {
  const open = interrupt(asked);
  exchanges = [];
  clear();
  await open;
  clear();
  at("question").focus();
}

function clear() {
  at("conversation").replaceChildren();
  at("question").value = at("input").value = at("note").textContent = "";
  at("problem").hidden = at("again").hidden = true;
}

async function sayAgain(asked) {
  await interrupt(asked);
  const last = exchanges.pop();
  if (!last) return;
  at("conversation").querySelectorAll(`[data-number="${exchanges.length}"]`).forEach((one) => one.remove());
  const isGreedy = settings.mode !== "faq" && readOptions().temperature === 0;
  await say(asked, last.text, last.input, false, isGreedy ? GREEDY : "");
}

/** Asks and shows the answer as it comes; `isTyped` empties the boxes. `more` is a sentence of the note below. */
async function say(asked, text, input, isTyped = true, more = "") {
  await interrupt(asked);
  at("problem").hidden = true;
  at("note").textContent = "";
  try {
    requireShort(text + input);
    const exchange = { text, input: input.trim(), answer: "" };
    isOpen = answer(asked, exchange, isTyped, more);
    await isOpen;
  } catch (error) {
    showProblem(error);
  } finally {
    isOpen = null;
    at("stop").hidden = true;
    at("again").hidden = !exchanges.length || settings.mode === "faq";
  }
}

function requireShort(text) {
  const length = [...text].length;
  if (length > MOST_CHARACTERS) {
    const most = MOST_CHARACTERS.toLocaleString("en");
    throw new Error(`The text has ${length.toLocaleString("en")} characters; the page reads ${most}.`);
  }
}

async function answer(asked, exchange, isTyped, more) {
  const bubbles = show(exchange, exchanges.length);
  const mine = exchanges;
  try {
    at("stop").hidden = settings.mode === "faq";
    at("again").hidden = true;
    if (isTyped) at("question").value = at("input").value = "";
    const found = await askFor(asked, exchange, (piece) => {
      exchange.answer += piece;
      bubbles.said.textContent = exchange.answer;
      keepInSight();
    });
    mine.push(exchange);
    finish(bubbles, exchange, found);
    const isCut = settings.mode === "chat" && found.finishReason === "length";
    const notes = [found.forgotten ? TOO_LONG : "", isCut ? CUT_OFF : "", more];
    if (mine === exchanges) at("note").textContent = notes.filter(Boolean).join(" ");
  } catch (error) {
    bubbles.all.forEach((one) => one.remove());
    if (isTyped && !at("question").value) [at("question").value, at("input").value] = [exchange.text, exchange.input];
    throw error;
  }
}

/** What the worker says to an exchange, by the page's mode. */
async function askFor(asked, exchange, onPiece) {
  const { text, input } = exchange;
  const options = readOptions();
  if (settings.mode === "write") return asked.ask("continue", [{ text, ...options }], onPiece);
  if (settings.mode === "chat") return asked.ask("reply", [{ exchanges, text, input, ...options }], onPiece);
  const reply = await asked.ask("lookUp", [{ text, ...options }]);
  onPiece(reply.text);
  return { ...reply, finishReason: "stop" };
}

/** Puts an exchange into the conversation; its answer, yet empty, is `said`. */
function show(exchange, number) {
  const all = [];
  const bubble = (className, speaker) => {
    const one = element("div", `message ${className}`);
    one.dataset.number = number;
    one.dir = "auto";
    one.append(element("span", "hidden", `${speaker}: `));
    all.push(one);
    return one;
  };
  const said = element("span", "said");
  const answer = bubble("bot", settings.mode === "write" ? "Text" : "Answer");
  if (settings.mode === "write") {
    answer.append(element("span", "begun", exchange.text));
  } else {
    const user = bubble("user", "Question");
    user.append(exchange.text);
    if (exchange.input) user.append(element("br"), element("span", "of-input", "Input: "), exchange.input);
    all.reverse();
  }
  answer.append(said);
  answer.setAttribute("aria-busy", "true"); // read aloud once it is whole
  at("conversation").append(...all);
  keepInSight();
  return { all, answer, said };
}

/** The answer is whole: it can be read aloud and copied. */
function finish({ answer, said }, exchange, found) {
  said.textContent = exchange.answer;
  if (found.explanation) answer.append(element("br"), element("span", "of-source", found.explanation));
  const button = element("button", "copy", "Copy");
  button.type = "button";
  const whole = settings.mode === "write" ? exchange.text + exchange.answer : exchange.answer;
  button.addEventListener("click", () => copy(whole, button));
  answer.append(button);
  answer.removeAttribute("aria-busy");
  keepInSight();
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // not from an address without https: by way of a box
    const box = Object.assign(element("textarea", "hidden"), { value: text });
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
    button.focus();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

function keepInSight() {
  at("conversation").scrollTop = at("conversation").scrollHeight;
}
