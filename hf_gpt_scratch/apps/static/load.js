"use strict";
// The page's side: loads the files that the worker needs, starts it, and asks it.

const settings = JSON.parse(document.getElementById("settings").textContent);
const arrived = {};

// Called by the scripts that hold the files, compressed and as base64.
function part(name, base64) {
  (arrived[name] ??= []).push(bytesOf(base64));
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function runScript(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${settings.place}/${name}`;
    script.onload = () => { script.remove(); resolve(); };
    script.onerror = () => reject(new Error(`The file ${settings.place}/${name} cannot be loaded: reload the page.`));
    document.head.append(script);
  });
}

// The worker's files by name, as ArrayBuffers; `onProgress` is called with the share that is there.
async function loadFiles(onProgress) {
  const total = settings.parts.reduce((sum, one) => sum + one.bytes, 0), files = {};
  let done = 0;
  for (const [place, one] of settings.parts.entries()) {
    await runScript(one.script);
    done += one.bytes;
    onProgress(done / total, done);
    if (settings.parts[place + 1]?.name === one.name) continue;
    const packed = new Blob(arrived[one.name]).stream();
    delete arrived[one.name];
    files[one.name] = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }
  return files;
}

function requireBrowser() {
  if (typeof WebAssembly !== "object") {
    throw new Error("This browser has no WebAssembly, in which the model runs: allow it, or use another browser.");
  }
  if (typeof DecompressionStream !== "function" || !"".isWellFormed) {
    throw new Error("This browser is too old for the page: use one of 2024 or later.");
  }
}

// What runs in the worker is asked by name: `await asked("judge", text)`. `onPiece` is called with what comes before
// the answer.
class Asked {
  constructor() {
    const source = new Blob([document.getElementById("worker").textContent], { type: "text/javascript" });
    this.worker = new Worker(URL.createObjectURL(source));
    this.open = new Map();
    this.last = 0;
    this.worker.onmessage = ({ data }) => this.answer(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.open.values()) reject(new Error(event.message));
      this.open.clear();
    };
  }

  ask(method, values = [], onPiece = () => {}, moved = []) {
    const id = ++this.last;
    this.worker.postMessage({ id, method, values }, moved);
    return new Promise((resolve, reject) => this.open.set(id, { resolve, reject, onPiece }));
  }

  answer({ id, piece, result, error }) {
    const asked = this.open.get(id);
    if (!asked) return;
    if (piece !== undefined) return asked.onPiece(piece);
    this.open.delete(id);
    if (error) asked.reject(new Error(error));
    else asked.resolve(result);
  }
}

function showProblem(error) {
  const problem = document.getElementById("problem");
  problem.textContent = error.message;
  problem.hidden = false;
}

// Starts the model; returns an `Asked`, or nothing where that is not possible and the page says why.
async function start() {
  const progress = document.getElementById("progress"), loaded = document.getElementById("loaded");
  try {
    requireBrowser();
    const files = await loadFiles((share, bytes) => {
      progress.value = share;
      loaded.textContent = `${(bytes / 1e6).toFixed(1)} MB`;
    });
    const asked = new Asked();
    await asked.ask("load", [files], undefined, Object.values(files));
    document.getElementById("loading").hidden = true;
    keepOffline();
    return asked;
  } catch (error) {
    document.getElementById("loading").hidden = true;
    showProblem(error);
  }
}

// From a server, the folder is kept for when there is no network; a new export takes the place of an old one.
function keepOffline() {
  if (location.protocol.startsWith("http") && navigator.serviceWorker) {
    navigator.serviceWorker.register("sw.js").catch(() => {}); // without it the page needs the network, no more
  }
}
