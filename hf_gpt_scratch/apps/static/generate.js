"use strict";
// Text as a language model writes it, as generation/sampling.py does: one token a step, with the keys and values of those
// before it in `past`. Needs sampling.js, and worker.js for `breathe`.

// Prompts of more tokens are read without scores, and their last token by itself, as onnx_models does: the scores of
// 1,000 tokens are 200 MB with GPT-2's vocabulary.
const PROMPT = 16;

/**
 * New tokens, one by one, until one that ends a text.
 *
 * run: (ids, past, {isScored}) -> {logits, past}: the logits (T, V) after each of the ids, unless they are not wanted,
 * and what the next step needs; null at first.
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
    await breathe(); // a click on Stop is seen
  }
}

/** The logits (V) after the last of the ids, and the past. */
async function readTokens(run, ids, past, vocabularySize) {
  let unread = ids;
  if (ids.length > PROMPT) {
    past = (await run(ids.slice(0, -1), past, { isScored: false })).past;
    unread = ids.slice(-1);
  }
  const read = await run(unread, past);
  return { logits: read.logits.subarray(read.logits.length - vocabularySize), past: read.past };
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
  const stream = new TextStream(model.decode);
  const room = Math.min(maxNewTokens, limit - ids.length);
  for await (const token of sampleTokens(model.run, ids, room, model.config.vocab_size, settings)) {
    yield stream.push(token);
  }
}
