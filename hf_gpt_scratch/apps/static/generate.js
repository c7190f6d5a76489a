"use strict";
// Text as a language model writes it, as generation/sampling.py does: one token a step, with the keys and values of
// those before it in `past`. Needs sampling.js.

const MOST_LOGITS = 2 ** 24; // of one step, so that a long prompt needs no gigabytes: 64 MiB

/**
 * New tokens, one by one, until one that ends a text.
 *
 * run: (ids, past) -> {logits, past}: the logits (T, V) after each of the ids, and what the next step needs; null at first.
 * settings: `ends`, the tokens that end a text; `repetitionPenalty`; and those of `chooseToken`.
 */
async function* sampleTokens(run, ids, maxNewTokens, vocabularySize, settings) {
  const { ends, repetitionPenalty = 1, ...choice } = settings;
  const seen = new Set(ids);
  let past = null;
  let unread = ids;
  for (let written = 0; written < maxNewTokens; written++) {
    const read = await readTokens(run, unread, past, vocabularySize);
    past = read.past;
    const token = chooseToken(penalizeRepetition(read.logits, seen, repetitionPenalty), choice);
    if (ends.includes(token)) return;
    yield token;
    seen.add(token);
    unread = [token];
    await nextTask(); // the page shows the token, and sees a click on Stop
  }
}

/** The logits (V) after the last of the ids, and the past. */
async function readTokens(run, ids, past, vocabularySize) {
  const most = Math.max(1, Math.floor(MOST_LOGITS / vocabularySize));
  let read = { past };
  for (let start = 0; start < ids.length; start += most) {
    read = await run(ids.slice(start, start + most), read.past);
  }
  return { logits: read.logits.subarray(read.logits.length - vocabularySize), past: read.past };
}

/** Lets the browser do what waits; setTimeout would wait for 4 ms each time. */
function nextTask() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** The text of tokens that come one by one: each piece as soon as its characters are complete. */
class TextStream {
  constructor(decode) {
    this.decode = decode; // (ids) -> text, without special tokens
    this.ids = []; // the last piece's tokens, which a decoder may need to see, and those after them
    this.shown = 0; // how many characters of their text were given
    this.begun = 0; // how many of the ids these were
  }

  /** The piece that the token completes, "" where it completes none. */
  push(token) {
    this.ids.push(token);
    const text = this.decode(this.ids);
    if (text.length <= this.shown || text.endsWith("\ufffd")) return "";
    const piece = text.slice(this.shown);
    this.ids = this.ids.slice(this.begun);
    this.begun = this.ids.length;
    this.shown = this.decode(this.ids).length;
    return piece;
  }
}

/**
 * What the model writes after a prompt's tokens, piece by piece, "" where a token completes no character: until a token
 * that ends a text, after `maxNewTokens`, or where prompt and text fill the model's positions.
 */
async function* streamText(model, ids, maxNewTokens, settings) {
  const limit = model.config.n_positions;
  if (ids.length >= limit) {
    const most = `the model reads at most ${limit}, its answer included`;
    throw new InputError(`The prompt has ${ids.length} tokens; ${most}.`);
  }
  const stream = new TextStream((tokens) => model.decode(tokens));
  const room = Math.min(maxNewTokens, limit - ids.length);
  for await (const token of sampleTokens(model.run, ids, room, model.config.vocab_size, settings)) {
    yield stream.push(token);
  }
}
