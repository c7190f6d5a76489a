"use strict";
// A conversation with an instruction-tuned model, as generation/chat.py holds it. Needs generate.js and prompts.js.

class Conversation {
  /**
   * model: as `chatIds` and `streamText` take it.
   * isAlpaca: whether the chat template is the Alpaca prompt. history: whether the model reads earlier questions too.
   */
  constructor(model, { isAlpaca, history, system = "", ends }) {
    Object.assign(this, { model, isAlpaca, history, ends });
    this.system = system ? [{ role: "system", content: system }] : [];
    this.messages = [];
    this.forgotten = 0; // how many of the oldest exchanges were dropped to make room
    this.finishReason = null; // why the last answer ended: "stop", "length" or "interrupted"
  }

  /** The answer, piece by piece; the pages' settings are those of `sampleTokens`. Raises an `InputError` at once. */
  ask(text, { maxNewTokens, input = "", ...settings }) {
    requireQuestion(text, input);
    const limit = this.model.config.n_positions;
    const room = Math.min(maxNewTokens, Math.floor(limit / 4));
    const earlier = this.history ? this.messages : [];
    let messages = [...earlier, { role: "user", content: this.question(text, input) }];
    let forgotten = 0;
    while (messages.length > 1 && this.ids(messages).length + room > limit) {
      messages = messages.slice(2);
      forgotten++;
    }
    const ids = this.ids(messages);
    if (ids.length >= limit) {
      const most = `the model reads at most ${limit}`;
      throw new InputError(`The question has ${ids.length} tokens, those of the prompt around it included; ${most}.`);
    }
    this.messages = messages;
    this.forgotten += forgotten;
    return this.answer(ids, Math.min(maxNewTokens, limit - ids.length), settings);
  }

  async *answer(ids, maxNewTokens, settings) {
    const messages = this.messages;
    const pieces = [];
    this.finishReason = "interrupted";
    try {
      for await (const piece of streamText(this.model, ids, maxNewTokens, { ends: this.ends, ...settings })) {
        pieces.push(piece);
        yield piece;
      }
      this.finishReason = pieces.length === maxNewTokens ? "length" : "stop";
    } finally {
      messages.push({ role: "assistant", content: pieces.join("") }); // an interrupted answer, as far as it came
    }
  }

  /** A question and its input as one message: in the Alpaca form if the model has it, else as two paragraphs. */
  question(text, input) {
    const given = strip(input);
    if (!given) return text;
    return this.isAlpaca ? `${text}${INPUT_HEADING}${given}` : `${text}\n\n${given}`;
  }

  /** The tokens of the messages; the template of an older Alpaca model does not set headings apart. */
  ids(messages) {
    const treat = this.isAlpaca ? asText : (content) => content;
    const all = [...this.system, ...messages];
    return chatIds(this.model, all.map((one) => ({ ...one, content: treat(one.content) })));
  }
}
