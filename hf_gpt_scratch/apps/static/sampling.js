"use strict";
// How the next token is chosen: the settings of generation/sampling.py, applied in the same order and precision.

/** Numbers from 0 to 1, 1 excluded: those of a seed (mulberry32) are always the same ones, though not torch's. */
function seededRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * The logits (V) with the repetition penalty of CTRL: of the tokens in `seen`, positive logits are divided by it and
 * negative ones multiplied. 1 changes nothing.
 */
function penalizeRepetition(logits, seen, penalty) {
  if (penalty === 1) return logits;
  const penalized = Float32Array.from(logits);
  for (const token of new Set(seen)) {
    const logit = penalized[token];
    penalized[token] = logit > 0 ? logit / Math.fround(penalty) : logit * Math.fround(penalty);
  }
  return penalized;
}

/** The number of the largest value, the first of several. */
function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** The probabilities (V) of logits (V), of which those that are left out are -Infinity. */
function softmax(logits) {
  const largest = logits[argmax(logits)];
  const probabilities = Float32Array.from(logits, (logit) => Math.exp(logit - largest));
  let sum = 0;
  for (const one of probabilities) sum += one;
  return probabilities.map((one) => one / sum);
}

/**
 * The probabilities (V) to sample from, of logits (V).
 *
 * temperature divides the logits; topK keeps the K most likely tokens (0 or null: all); topP keeps the fewest tokens
 * whose probabilities add up to it (null or 1: all).
 */
function filteredProbabilities(logits, { temperature = 1, topK = null, topP = null } = {}) {
  let kept = Float32Array.from(logits, (logit) => logit / Math.fround(temperature));
  if (topK) {
    const least = Float32Array.from(kept).sort()[kept.length - Math.min(topK, kept.length)];
    kept = kept.map((logit) => (logit < least ? -Infinity : logit));
  }
  if (topP !== null && topP < 1) kept = keepNucleus(kept, Math.fround(topP));
  return softmax(kept);
}

function keepNucleus(logits, topP) {
  const probabilities = softmax(logits);
  const ordered = Float32Array.from(probabilities).sort().reverse();
  let count = 0;
  for (let sum = 0; count < ordered.length; count++) {
    sum += ordered[count];
    if (count && Math.fround(Math.fround(sum) - ordered[count]) >= topP) break;
  }
  const least = ordered[count - 1];
  let ties = 0; // how many tokens with the least probability are among those that are kept
  while (ties < count && ordered[count - 1 - ties] === least) ties++;
  return logits.map((logit, token) => {
    const probability = probabilities[token];
    return probability > least || (probability === least && ties-- > 0) ? logit : -Infinity;
  });
}

/** The next token of logits (V): at temperature 0 the most likely one, else one that `random` draws. */
function chooseToken(logits, { temperature = 1, topK = null, topP = null, random = Math.random } = {}) {
  if (temperature === 0) return argmax(logits);
  const probabilities = filteredProbabilities(logits, { temperature, topK, topP });
  let sum = 0;
  for (const one of probabilities) sum += one;
  let left = random() * sum;
  let last = 0;
  for (let token = 0; token < probabilities.length; token++) {
    if (probabilities[token] === 0) continue;
    left -= probabilities[token];
    last = token;
    if (left < 0) break;
  }
  return last;
}
