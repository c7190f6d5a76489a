"use strict";
// The worker's side: answers what `Asked` of load.js asks, by the functions in `answers`.

const answers = {
  async load(files) {
    self.model = await loadModel(files);
    await self.prepare?.(self.model, files);
  },
  stop() {}, // a newer question, at which others stop
};
let newest = 0; // the number of the last question, for answers that stop when there is a newer one

self.onmessage = async ({ data: { id, method, values } }) => {
  newest = id;
  try {
    const asked = { piece: (piece) => postMessage({ id, piece }), isNewest: () => newest === id };
    postMessage({ id, result: await answers[method](...values, asked) });
  } catch (error) {
    postMessage({ id, error: error?.message ?? String(error) });
  }
};

// Lets messages that have come be seen.
function breathe() {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => { channel.port1.close(); resolve(); };
    channel.port2.postMessage(null);
  });
}
