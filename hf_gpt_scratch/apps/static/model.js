// In the worker: the tokenizer and the model, from their files.

// From the files by name (ArrayBuffers): { config, text(name), tokenizer, run, crop }. `importModule` takes a file's
// name and content.
async function loadModel(files, importModule = importBytes) {
  const ort = await importModule("onnxruntime.mjs", files["onnxruntime.mjs"]);
  const tokenizers = await importModule("tokenizers.mjs", files["tokenizers.mjs"]);
  const text = (name) => (files[name] ? new TextDecoder().decode(files[name]) : null);
  const json = (name) => JSON.parse(text(name) ?? "{}");
  const config = json("config.json");
  ort.env.wasm.numThreads = 1;
  if (files["onnxruntime.wasm"]) ort.env.wasm.wasmBinary = files["onnxruntime.wasm"];
  const session = await ort.InferenceSession.create(new Uint8Array(files["model.onnx"]));
  delete files["model.onnx"];
  return {
    config, text, json, importModule,
    tokenizer: makeTokenizer(tokenizers, json("tokenizer.json"), json("tokenizer_config.json")),
    run: (ids, past = null, options = {}) => run(ort, session, config, ids, past, options),
    crop: (past, length) => crop(ort, past, length),
  };
}

// The worker makes the module's address itself: from a file, it may not load one that the page made.
async function importBytes(name, bytes) {
  const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

// One forward pass over the token ids (T of them), after those of `past` (its length P; null for none). Returns
// { logits, tokenLogits, dims, past }: Float32Arrays, of a language model `logits` (T * vocabulary), of a classifier
// `logits` (labels) and `tokenLogits` (T * labels); and the past with the new tokens in it. Where the scores are not
// wanted, they are null.
async function run(ort, session, config, ids, past, { isScored = true }) {
  const start = past?.length ?? 0, end = start + ids.length;
  const whole = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
  const feeds = {
    input_ids: whole(ids),
    attention_mask: whole(new Array(end).fill(1)),
    position_ids: whole(ids.map((_, place) => start + place)),
  };
  const shape = [1, config.n_head, 0, config.n_embd / config.n_head];
  for (const name of session.inputNames) {
    if (name.startsWith("past_key_values.")) {
      feeds[name] = past?.tensors[name] ?? new ort.Tensor("float32", new Float32Array(0), shape);
    }
  }
  const wanted = session.outputNames.filter((name) => isScored || name.startsWith("present."));
  const found = await session.run(feeds, wanted), tensors = {};
  for (const name of session.outputNames) {
    if (name.startsWith("present.")) tensors[name.replace("present.", "past_key_values.")] = found[name];
  }
  return {
    logits: found.logits?.data ?? null,
    tokenLogits: found.token_logits?.data ?? null,
    past: { length: end, tensors },
  };
}

// The past without its tokens from `length` on.
function crop(ort, past, length) {
  if (!past || length === 0) return null;
  if (length >= past.length) return past;
  const tensors = {};
  for (const [name, { data, dims }] of Object.entries(past.tensors)) {
    const [, heads, all, width] = dims, kept = new Float32Array(heads * length * width);
    for (let head = 0; head < heads; head++) {
      const from = head * all * width;
      kept.set(data.subarray(from, from + length * width), head * length * width);
    }
    tensors[name] = new ort.Tensor("float32", kept, [1, heads, length, width]);
  }
  return { length, tensors };
}

const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // Unicode's White_Space

// { encode(text) -> ids, ends, bytes, decode(ids) -> text, id(token) -> id, special: tokens }. A special
// token that is spelled in a text is its characters. Where the library differs from the one in Python, Python's rules.
function makeTokenizer(library, tokenizer, config) {
  const added = tokenizer.added_tokens ?? [], special = added.filter((one) => one.special);
  const plain = new library.Tokenizer({ ...tokenizer, added_tokens: added.filter((one) => !one.special) }, config);
  const whole = new library.Tokenizer(tokenizer, config);
  for (const one of special) plain.model.tokens_to_ids.set(one.content, one.id); // the post-processor's
  asInPython(plain);
  asInPython(whole);
  const encoder = new TextEncoder(), length = (text) => encoder.encode(text).length;
  const read = (text) => (plain.normalizer ? plain.normalizer(text) : text);
  const before = length(read("a")) - 1; // what the normaliser puts before a text
  const inserted = new Set(special.map((one) => one.content));
  return {
    // Where each token of a text ends, in bytes of the text as it is read; and the bytes of a piece of it, up to a
    // space or its end. Byte-level tokens have a character a byte.
    ends(text) {
      let end = 0;
      return plain.encode(text).tokens.map((token) => (end += inserted.has(token) ? 0 : token.length));
    },
    bytes: (piece, isFirst) => length(read(piece)) + (isFirst ? prefix(plain.pre_tokenizer) : -before),
    encode: (text, options = {}) => plain.encode(text, options).ids,
    decode: (ids, options = {}) => whole.decode(ids, { clean_up_tokenization_spaces: false, ...options }),
    id: (token) => whole.token_to_id(token),
    special: special.map((one) => one.content),
  };
}

const PIECES = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
); // of GPT-2
const DIGIT = /\P{N}+|\p{N}/gu, DIGITS = /\P{N}+|\p{N}+/gu;

function asInPython(tokenizer) {
  for (const one of within(tokenizer.normalizer)) {
    // Each character for itself, as in Rust: JavaScript's own knows the sigma at the end of a word.
    if (one.config?.type === "Lowercase") one.normalize = (text) => Array.from(text, (c) => c.toLowerCase()).join("");
  }
  for (const one of within(tokenizer.pre_tokenizer)) {
    // JavaScript's \d is 0 to 9 alone; its \s has U+FEFF and lacks U+0085.
    if (one.config?.type === "Digits") one.pattern = one.config.individual_digits ? DIGIT : DIGITS;
    if (one.config?.type === "ByteLevel") one.pattern = PIECES;
  }
}

// Whether a space is put before the text.
function prefix(steps) {
  return Number(within(steps).some((one) => one.config?.type === "ByteLevel" && one.add_prefix_space));
}

function within(step) {
  if (!step) return [];
  const steps = step.normalizers ?? step.tokenizers ?? step.pre_tokenizers;
  return steps ? steps.flatMap(within) : [step];
}
