"use strict";
// In the worker: what the page of a language model asks for. `open` comes first; a reply ends early at a newer question.

self.prepare = async (model, files) => {
  const { Template } = await model.importModule("jinja.mjs", files["jinja.mjs"]);
  let told, reader, bot;

  // What the export knows of the model: the settings of static_chat.py.
  answers.open = (settings) => {
    told = settings;
    reader = readerOf(model, Template, settings);
    bot = settings.faq ? new FaqBot(settings.faq, reader, settings) : null;
  };

  // The answer to a question after the exchanges before, in pieces; then why it ended, and how many were forgotten.
  answers.reply = async ({ exchanges, text, system, history, ...asked }, { piece, isNewest }) => {
    const chat = new Conversation(reader, { ...told, system, history });
    chat.messages = exchanges.flatMap((one) => [
      { role: "user", content: chat.question(one.text, one.input) },
      { role: "assistant", content: one.answer },
    ]);
    for await (const one of chat.ask(text, withRandom(asked))) {
      piece(one);
      if (!isNewest()) break;
    }
    return { finishReason: chat.finishReason, forgotten: chat.forgotten };
  };

  // What the model writes after a text, in pieces.
  answers.continue = async ({ text, maxNewTokens, ...asked }, { piece, isNewest }) => {
    if (/\p{Surrogate}/u.test(text)) throw new InputError("The prompt is not UTF-8 text.");
    const ids = fromBeginning(reader, idsWithSpecial(reader, text));
    const begun = ids.length ? ids : [told.beginOfText];
    const settings = { ends: told.ends, ...withRandom(asked) };
    for await (const one of streamText(reader, begun, maxNewTokens, settings)) {
      piece(one);
      if (!isNewest()) break;
    }
    return {};
  };

  // The bot's reply to a question.
  answers.lookUp = ({ text, threshold }) => bot.answer(text, threshold);
  answers.prompt = (messages) => chatIds(reader, messages);
};

// The model as prompts.js, generate.js and faq_bot.js take it.
function readerOf(model, Template, { chatTemplate, templateTokens, specialTokens, beginning, endOfText }) {
  const template = chatTemplate && new Template(chatTemplate);
  const { config, run, tokenizer } = model;
  return {
    config, run, specialTokens, beginning, endOfText,
    encodePlain: (text) => tokenizer.encode(text, { add_special_tokens: false }),
    decode: (ids) => tokenizer.decode(ids, { skip_special_tokens: true }),
    renderChat: (messages) => template.render({ ...templateTokens, messages, add_generation_prompt: true }),
  };
}

// The settings with the numbers that tokens are drawn by: of a seed, or, where it is null, other ones each time.
function withRandom({ seed, ...settings }) {
  return { ...settings, random: seed === null ? Math.random : seededRandom(seed) };
}
