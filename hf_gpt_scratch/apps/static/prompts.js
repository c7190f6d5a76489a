"use strict";
// What a model reads of what someone typed, as prompts.py, utils/special_tokens.py and utils/text.py do it.

const INPUT_HEADING = "\n\n### Input:\n";
const TURN_HEADINGS = ["### Instruction:", "### Response:"];
const PYTHON_SPACES = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const SPACES_AT_ENDS = new RegExp(`^${PYTHON_SPACES}+|${PYTHON_SPACES}+$`, "g");

/** What someone can mend: its message is a sentence that the page shows. */
class InputError extends Error {}

/** A text without the spaces around it: what Python's str.strip counts as spaces. */
function strip(text) {
  return text.replace(SPACES_AT_ENDS, "");
}

/** Raises an `InputError` for a question that is empty or holds half characters. */
function requireQuestion(text, more = "") {
  if (!strip(text)) throw new InputError("The question is empty.");
  if (/\p{Surrogate}/u.test(text + more)) throw new InputError("The question is not UTF-8 text.");
}

/** A typed heading of the Alpaca prompt opens no turn, as its hashes are set apart. */
function asText(content) {
  return TURN_HEADINGS.reduce((text, one) => text.replaceAll(one, one.replace("###", "# # #")), content);
}

/** The words in lower case, without punctuation, which copies of a text share; of mere symbols, the text. */
function plainWords(text) {
  return strip(text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ")) || text;
}

/**
 * The tokens of a conversation up to where the next answer begins: the special tokens of the chat template are tokens,
 * and those that are spelled in a message are its characters.
 *
 * model: `renderChat(messages)`, `encodePlain(text)`, and `specialTokens`, their ids by their text, the longest first.
 */
function chatIds(model, messages) {
  const spelled = Object.keys(model.specialTokens).filter((text) => messages.some((one) => one.content.includes(text)));
  const written = messages.map((one) => one.content).join("");
  const hidden = new Map(); // a character for private use by the special token that it stands for
  for (let code = 0xe000; hidden.size < spelled.length; code++) {
    const character = String.fromCharCode(code);
    if (!written.includes(character)) hidden.set(character, spelled[hidden.size]);
  }
  const hide = (text) => [...hidden].reduce((kept, [character, one]) => kept.replaceAll(one, character), text);
  const show = (text) => [...hidden].reduce((kept, [character, one]) => kept.replaceAll(character, () => one), text);
  const rendered = model.renderChat(messages.map((one) => ({ ...one, content: hide(one.content) })));
  return idsWithSpecial(model, rendered, show);
}

/** The tokens of a text whose special tokens are tokens; `show` changes what is between them before it is read. */
function idsWithSpecial(model, text, show = (piece) => piece) {
  const special = model.specialTokens;
  const read = (piece) => (Object.hasOwn(special, piece) ? [special[piece]] : model.encodePlain(show(piece)));
  return splitAt(text, Object.keys(special)).filter(Boolean).flatMap(read);
}

/** A text cut before and after each of the separators, of which the first that fits wins. */
function splitAt(text, separators) {
  if (!separators.length) return [text];
  const escaped = separators.map((one) => one.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return text.split(new RegExp(`(${escaped.join("|")})`));
}

/** The tokens of a text that something follows: from the BOS token, where the tokenizer puts one before a text. */
function fromBeginning(model, ids) {
  const begins = model.beginning;
  return begins.every((token, i) => ids[i] === token) ? ids : [...begins, ...ids];
}
