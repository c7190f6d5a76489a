// Keeps the folder for when there is no network. A new export has another version, and takes the place of this one.
const PREFIX = `hf-gpt-scratch ${self.registration.scope} `;
const CACHE = PREFIX + "{{version}}";
const FILES = {{files}};

self.addEventListener("install", (event) => {
  const fresh = FILES.map((name) => new Request(name, { cache: "no-cache" })); // what is here is asked for changes
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(fresh)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches.keys()
      .then((names) => names.filter((name) => name.startsWith(PREFIX) && name !== CACHE))
      .then((old) => Promise.all(old.map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  event.respondWith(event.request.mode === "navigate" ? fromNetwork(event.request) : fromCache(event.request));
});

// The page itself is asked for first, so that a new export is seen; its files have the version in their names.
async function fromNetwork(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = await (await caches.open(CACHE)).match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}

async function fromCache(request) {
  return (await (await caches.open(CACHE)).match(request)) ?? fetch(request);
}
