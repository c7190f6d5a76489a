// In the worker: from a text to its label, by the rules of `pipeline_gpt_scratch.py`, and as `TextSession` reads: only
// the tokens that are new since the text before.
//
// Shapes: T = tokens that are read, K = labels. Logits and probabilities after T tokens are arrays of T arrays of K.

const CHUNK = 64; // tokens that are read at a time, so that a long text shows its words as they are read
const PYTHON_SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const AROUND = new RegExp(`^[${PYTHON_SPACE}]+|[${PYTHON_SPACE}]+$`, "g");
const WORD = new RegExp(`[${PYTHON_SPACE}]*[^${PYTHON_SPACE}]+`, "g");

self.prepare = (model) => {
  const calibration = new Calibration(model.config), reader = new Reader(model);
  const names = Object.keys(model.config.id2label).map((number) => model.config.id2label[number]);

  // The verdict on a text and on it after each word; pieces are the same, of as much of the text as was read. Null
  // for an empty text; undefined where a newer question has come.
  const judge = async (text, { piece, isNewest }) => {
    const stripped = text.replace(AROUND, "");
    if (!stripped) return null;
    const ids = model.tokenizer.encode(stripped), begun = performance.now();
    const places = wordPlaces(model.tokenizer, stripped, model.config);
    const said = (logits) => ({
      ...verdicts(calibration, names, logits, places),
      tokens: ids.length,
      isCut: ids.length > model.config.n_positions && model.config.long_texts !== "windows",
      milliseconds: performance.now() - begun,
      read: reader.ran,
    });
    const logits = await reader.read(ids, isNewest, (some) => piece(said(some)));
    return logits ? said(logits) : undefined;
  };
  let turn = Promise.resolve(); // one text is read after the other
  answers.judge = (...asked) => {
    const done = turn.then(() => judge(...asked));
    turn = done.catch(() => {});
    return done;
  };
  answers.tokens = (text) => model.tokenizer.encode(text.replace(AROUND, ""));
};

function verdicts(calibration, names, logits, places) {
  const read = places.filter(({ place }) => place < logits.length);
  const after = read.map(({ place }) => calibration.probabilities(logits[place]));
  const last = calibration.probabilities(logits.at(-1));
  return {
    verdict: calibration.verdict(last, names),
    probabilities: last,
    words: read.map(({ word }, number) => ({
      word, probabilities: after[number], ...calibration.verdict(after[number], names),
    })),
    decidedAt: calibration.decidedAt(after),
  };
}

// Which tokens the model reads together, as [start, stop] of each window.
function windows(length, { n_positions: limit, long_texts: longTexts = "first" }) {
  if (longTexts === "windows") {
    const starts = Array.from({ length: Math.ceil(length / limit) }, (_, number) => number * limit);
    return starts.map((start) => [start, Math.min(start + limit, length)]);
  }
  const start = longTexts === "last" ? Math.max(length - limit, 0) : 0;
  return [[start, Math.min(start + limit, length)]];
}

// After each token, the mean of the logits of the windows so far, weighted by their tokens.
function pooled(parts) {
  if (parts.length === 1) return parts[0];
  const after = [];
  let total = parts[0][0].map(() => 0), tokens = 0;
  for (const logits of parts) {
    for (const [place, row] of logits.entries()) {
      after.push(Array.from(row, (one, label) => (total[label] + (place + 1) * one) / (tokens + place + 1)));
    }
    total = Array.from(total, (sum, label) => sum + logits.length * logits.at(-1)[label]);
    tokens += logits.length;
  }
  return after;
}

// The words of a stripped text that are read, each with the space before it, and the place of its last token.
function wordPlaces(tokenizer, text, config) {
  const ends = tokenizer.ends(text), spans = windows(ends.length, config);
  const first = spans[0][0], stop = spans.at(-1)[1], words = [];
  let read = first, bytes = 0, tokens = 0;
  for (const [word] of text.matchAll(WORD)) {
    bytes += tokenizer.bytes(word, bytes === 0);
    while (tokens < ends.length && ends[tokens] <= bytes) tokens++;
    const soFar = Math.min(tokens, stop);
    if (soFar > read) {
      read = soFar;
      words.push({ word, place: read - 1 - first });
    }
  }
  return words;
}

class Reader {
  constructor(model) {
    this.model = model;
    this.known = []; // of each window its tokens, and the logits after each
    this.past = null; // the keys and values of one window
    this.cached = 0; // which it is
    this.ran = 0; // tokens that were run for the last text
  }

  // The logits after each token that is read; `onSome` is called with those so far. Null where `isNewest` says no.
  async read(ids, isNewest, onSome) {
    const spans = windows(ids.length, this.model.config);
    this.ran = 0;
    this.known.length = Math.min(this.known.length, spans.length);
    for (const [number, span] of spans.entries()) {
      const done = () => pooled(this.known.slice(0, number + 1).map(({ logits }) => logits));
      if (!(await this.window(number, ids.slice(...span), isNewest, () => onSome(done())))) return null;
    }
    return pooled(this.known.map(({ logits }) => logits));
  }

  async window(number, ids, isNewest, onSome) {
    const known = (this.known[number] ??= { ids: [], logits: [] });
    let same = 0;
    while (same < known.ids.length && known.ids[same] === ids[same]) same++;
    if (same < ids.length && (number !== this.cached || same === 0)) {
      [this.past, this.cached, same] = [null, number, 0];
    }
    known.ids.length = known.logits.length = same;
    if (number === this.cached) this.past = this.model.crop(this.past, same);
    while (same < ids.length) {
      const some = ids.slice(same, same + CHUNK), labels = Object.keys(this.model.config.id2label).length;
      const found = await this.model.run(some, this.past);
      this.past = found.past;
      this.ran += some.length;
      some.forEach((id, place) => {
        known.ids.push(id);
        known.logits.push(Array.from(found.tokenLogits.subarray(place * labels, (place + 1) * labels)));
      });
      same += some.length;
      if (same < ids.length) onSome();
      await breathe();
      if (!isNewest()) return false;
    }
    return true;
  }
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

class Calibration {
  constructor(config) {
    const kept = config.calibration ?? {};
    this.temperature = kept.temperature ?? 1;
    this.shift = kept.shift ?? 0;
    this.threshold = kept.threshold ?? 0.5;
    this.outsideThreshold = kept.outside_threshold ?? null;
    this.outsideLabel = kept.outside_label ?? "outside";
    const fitted = Object.entries(kept.early ?? {}).find(([agreement]) => Number(agreement) === 0.99);
    this.early = fitted?.[1].threshold ?? null;
    this.isMultiLabel = config.problem_type === "multi_label_classification";
  }

  probabilities(logits) {
    if (logits.length === 2 && !this.isMultiLabel) {
      const logOdds = (logits[1] - logits[0]) / this.temperature + this.shift;
      return [sigmoid(-logOdds), sigmoid(logOdds)];
    }
    const shifted = logits.map((one, label) => one / this.temperature + (this.shift[label] ?? this.shift));
    if (this.isMultiLabel) return shifted.map(sigmoid);
    const most = Math.max(...shifted), powers = shifted.map((one) => Math.exp(one - most));
    const sum = powers.reduce((total, one) => total + one, 0);
    return powers.map((one) => one / sum);
  }

  // The numbers of the labels that are said; none for outside.
  said(probabilities) {
    const best = probabilities.indexOf(Math.max(...probabilities));
    const threshold = (label) => this.threshold[label] ?? this.threshold;
    const isOutside = this.outsideThreshold !== null && probabilities[best] <= this.outsideThreshold;
    if (isOutside) return [];
    if (this.isMultiLabel) return probabilities.flatMap((one, label) => (one > threshold(label) ? [label] : []));
    if (probabilities.length === 2) return [Number(probabilities[1] > this.threshold)];
    return Array.isArray(this.threshold) && probabilities[best] <= threshold(best) ? [] : [best];
  }

  // { label, labels, probability, isOutside }, as a `Prediction` in Python.
  verdict(probabilities, names) {
    const said = this.said(probabilities), isBinary = probabilities.length === 2 && !this.isMultiLabel;
    const best = said.reduce((one, other) => (probabilities[other] > probabilities[one] ? other : one), said[0]);
    const score = said.length ? probabilities[best] : Math.max(...probabilities);
    return {
      label: said.length ? names[best] : this.outsideLabel,
      labels: said.map((label) => names[label]),
      probability: isBinary ? probabilities[1] : score,
    };
  }

  confidence(probabilities) {
    const said = this.said(probabilities);
    if (!this.isMultiLabel) return said.length ? probabilities[said[0]] : 0;
    return Math.min(...probabilities.map((one, label) => (said.includes(label) ? one : 1 - one)));
  }

  // After how many words the verdict is as good as final; null where that is not known.
  decidedAt(after) {
    const at = this.early === null ? -1 : after.findIndex((one) => this.confidence(one) > this.early);
    return at < 0 ? null : at + 1;
  }
}
