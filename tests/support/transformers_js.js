// What transformers.js makes of models, by a test's wishes; the same in Node and in a browser.

async function tokens({ AutoTokenizer }, { model, texts }) {
  const tokenizer = await AutoTokenizer.from_pretrained(model);
  return texts.map((text) => {
    const ids = tokenizer.encode(text);
    return { ids, text: ids.length ? tokenizer.decode(ids) : "" };
  });
}

async function written({ pipeline, TextStreamer }, { model, prompts, settings }) {
  const generator = await pipeline("text-generation", model);
  const answers = [];
  for (const prompt of prompts) {
    const pieces = [];
    let steps = 0;
    const streamer = new TextStreamer(generator.tokenizer, {
      skip_prompt: true,
      skip_special_tokens: true,
      callback_function: (piece) => pieces.push(piece), // whole words
      token_callback_function: () => steps++,
    });
    const [{ generated_text: text }] = await generator(prompt, { ...settings, streamer });
    answers.push({ text: typeof text === "string" ? text : text.at(-1).content, streamed: pieces.join(""), steps });
  }
  return answers;
}

async function classified({ AutoTokenizer, AutoModelForCausalLM, TextClassificationPipeline }, { model, texts }) {
  const tokenizer = await AutoTokenizer.from_pretrained(model);
  const graph = await AutoModelForCausalLM.from_pretrained(model); // its decoder feeds every GPT-2, whatever its head
  const classifier = new TextClassificationPipeline({ task: "text-classification", tokenizer, model: graph });
  const oneByOne = [];
  for (const text of texts) oneByOne.push(...(await classifier(text)));
  return { oneByOne, batch: await classifier(texts, { top_k: null }) };
}

// One answer for each wish, which names one of the functions above.
async function answer(transformers, wishes) {
  const answers = [];
  for (const wish of wishes) answers.push(await { tokens, written, classified }[wish.what](transformers, wish));
  return answers;
}
