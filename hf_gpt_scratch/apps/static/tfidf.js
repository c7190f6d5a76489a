"use strict";
// How similar a question is to the entries of an FAQ, as utils/tfidf.py and faq/retrieval.py measure it. Needs prompts.js.

/** The words of a text and its pairs of words; what scikit-learn counts as a word has two letters at least. */
function wordGrams(text) {
  const words = text.match(/[\p{L}\p{N}_]{2,}/gu) ?? [];
  return [...words, ...words.slice(1).map((word, i) => `${words[i]} ${word}`)];
}

/** The runs of 2 to 5 characters of each word with a space around it: scikit-learn's `char_wb`. */
function characterGrams(text) {
  const grams = [];
  for (const word of text.split(new RegExp(`${PYTHON_SPACES}+`)).filter(Boolean)) {
    const characters = [" ", ...word, " "];
    for (let length = 2; length <= 5; length++) {
      for (let start = 0; start === 0 || start + length <= characters.length; start++) {
        grams.push(characters.slice(start, start + length).join(""));
      }
      if (length >= characters.length) break; // a short word counts once
    }
  }
  return grams;
}

/** A vector, a Map of numbers by term, divided by its length. */
function normalized(vector) {
  let squares = 0;
  for (const value of vector.values()) squares += value * value;
  const length = Math.sqrt(squares) || 1;
  return new Map([...vector].map(([term, value]) => [term, value / length]));
}

/** TF-IDF of one kind of terms: 1 + ln(frequency), smoothed idf, vectors of length 1. */
class Tfidf {
  constructor(documents, terms) {
    this.terms = terms;
    const holding = new Map(); // how many documents hold a term
    for (const document of documents) {
      for (const term of new Set(terms(document))) holding.set(term, (holding.get(term) ?? 0) + 1);
    }
    const idf = ([term, count]) => [term, Math.log((1 + documents.length) / (1 + count)) + 1];
    this.idf = new Map([...holding].map(idf));
  }

  vector(text) {
    const counts = new Map();
    for (const term of this.terms(text)) if (this.idf.has(term)) counts.set(term, (counts.get(term) ?? 0) + 1);
    return normalized(new Map([...counts].map(([term, n]) => [term, (Math.log(n) + 1) * this.idf.get(term)])));
  }
}

/** The entries of an FAQ as TF-IDF vectors of words and of characters, each of all its phrasings and its answer. */
class Retriever {
  constructor(entries) {
    const documents = entries.map((entry) => plainWords([...phrasings(entry), entry.answer].join(" ")));
    this.words = new Tfidf(documents, wordGrams);
    this.characters = new Tfidf(documents, characterGrams);
    this.size = entries.length;
    this.entriesOf = new Map(); // by term, the entries that hold it, each with its weight
    documents.forEach((document, entry) => {
      for (const [term, weight] of this.vector(document)) {
        if (!this.entriesOf.has(term)) this.entriesOf.set(term, []);
        this.entriesOf.get(term).push([entry, weight]);
      }
    });
  }

  vector(text) {
    const words = [...this.words.vector(text)].map(([term, weight]) => [`w${term}`, weight]);
    const characters = [...this.characters.vector(text)].map(([term, weight]) => [`c${term}`, weight]);
    return normalized(new Map([...words, ...characters]));
  }

  /** The cosine of a question with each entry (entries), from 0 to 1. */
  similarities(question) {
    const cosines = new Float64Array(this.size);
    for (const [term, weight] of this.vector(plainWords(question))) {
      for (const [entry, other] of this.entriesOf.get(term)) cosines[entry] += weight * other;
    }
    return cosines;
  }
}

/** All wordings of an entry: the question and its rephrasings. */
function phrasings(entry) {
  return [entry.question, ...entry.rephrasings];
}
