"use strict";
// A bot of an FAQ: it answers from an entry or says that it does not know, as faq/bot.py does. Needs tfidf.js.

const CANDIDATES = 10; // the entries whose answers the language model compares

class FaqBot {
  /**
   * faq: what faq.json holds. model: as `fromBeginning` and `readTokens` take it, with `encodePlain` and `endOfText`,
   * the EOS token; null where nothing but TF-IDF counts. prompt: the Alpaca prompt's `preamble`.
   */
  constructor(faq, model, { preamble }) {
    Object.assign(this, { faq, model, preamble });
    this.retriever = new Retriever(faq.entries);
    const wordings = faq.entries.flatMap((entry) => phrasings(entry).map((text) => [plainWords(text), entry]));
    this.known = new Map(wordings);
  }

  /** The reply to a question: text, isRefusal, source, similarity, confidence, explanation; raises an `InputError`. */
  async answer(question, threshold = this.faq.threshold) {
    requireQuestion(question);
    const known = this.knownReply(plainWords(question));
    if (known) return known;
    const similarities = this.retriever.similarities(question);
    const best = argmax(similarities);
    const confidence = await this.confidence(question, similarities, best);
    const isRefusal = !(confidence > threshold);
    const { question: source, answer } = this.faq.entries[best];
    const similarity = similarities[best];
    const what = isRefusal ? "Nearest question, not near enough" : "From";
    const explanation = `${what}: ${source} (similarity ${similarity.toFixed(2)})`;
    return { text: isRefusal ? this.faq.refusal : answer, isRefusal, source, similarity, confidence, explanation };
  }

  /** The reply to a question that the FAQ has, in `plainWords`, or lists as one to refuse; else null. */
  knownReply(words) {
    const entry = this.known.get(words);
    if (entry) {
      const explanation = `From: ${entry.question} (similarity 1.00)`;
      const said = { text: entry.answer, source: entry.question, explanation };
      return { ...said, isRefusal: false, similarity: 1, confidence: 1 };
    }
    const source = this.faq.unanswered.find((text) => plainWords(text) === words);
    if (source === undefined) return null;
    const said = { text: this.faq.refusal, source, explanation: `Listed as a question to refuse: ${source}` };
    return { ...said, isRefusal: true, similarity: 1, confidence: 0 };
  }

  /** The probability that the nearest entry answers the question, by the fitted weights. */
  async confidence(question, similarities, best) {
    const { weights } = this.faq;
    const second = similarities.reduce((most, one, entry) => (entry === best ? most : Math.max(most, one)), 0);
    const opinion = weights.opinion ? await this.opinion(question, similarities, best) : 0; // a pass less to wait for
    const margin = similarities[best] - second;
    const features = weights.similarity * similarities[best] + weights.margin * margin + weights.opinion * opinion;
    return 1 / (1 + Math.exp(-(features + weights.bias)));
  }

  /** How probable the language model finds the answer of the best entry, among those of the nearest ones. */
  async opinion(question, similarities, best) {
    const nearest = [...similarities.keys()].sort((one, other) => similarities[other] - similarities[one]);
    const candidates = nearest.slice(0, CANDIDATES);
    const losses = await this.answerLosses(question, candidates.map((entry) => this.faq.entries[entry].answer));
    const least = Math.min(...losses);
    const likely = losses.map((loss) => Math.exp(least - loss));
    return likely[candidates.indexOf(best)] / likely.reduce((sum, one) => sum + one, 0);
  }

  /** The cross-entropy in nats of each answer as a whole, EOS token included, after the question. */
  async answerLosses(question, answers) {
    const { config, run, encodePlain, endOfText } = this.model;
    const prompt = this.promptIds(question);
    const first = await readTokens(run, prompt, null, config.vocab_size);
    const losses = [];
    for (const answer of answers) {
      const ids = [...encodePlain(asText(answer)), endOfText].slice(0, config.n_positions - prompt.length);
      let loss = tokenLoss(first.logits, ids[0]);
      if (ids.length > 1) {
        const { logits } = await run(ids.slice(0, -1), first.past);
        const after = (i) => logits.subarray(i * config.vocab_size, (i + 1) * config.vocab_size);
        ids.slice(1).forEach((token, i) => (loss += tokenLoss(after(i), token)));
      }
      losses.push(loss);
      await breathe();
    }
    return losses;
  }

  /** The tokens of the prompt of a question, of which one that is too long keeps its beginning. */
  promptIds(question) {
    const limit = this.model.config.n_positions;
    const longest = limit - Math.floor(limit / 4); // a quarter is kept for the answer
    for (let characters = [...question]; ; characters.length = Math.floor((characters.length * 3) / 4)) {
      const turn = `\n\n### Instruction:\n${asText(characters.join(""))}\n\n### Response:\n`;
      const ids = fromBeginning(this.model, this.model.encodePlain(asText(this.preamble) + turn));
      if (ids.length <= longest) return ids;
      if (!characters.length) throw new InputError(`The prompt takes ${ids.length} tokens, and at most ${longest} fit.`);
    }
  }
}

/** The cross-entropy in nats of a token after which the logits (V) come. */
function tokenLoss(logits, token) {
  const largest = logits[argmax(logits)];
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return Math.log(sum) + largest - logits[token];
}
