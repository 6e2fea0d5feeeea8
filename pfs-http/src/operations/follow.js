// Follows a stream as server-sent events: with EventSource, or with fetch if there is a token,
// because EventSource cannot send one.

const RETRY = 2000;

/// Calls `on.text`, `on.gap`, `on.removed`, `on.ended` and `on.trouble`. Returns a function that
/// stops following.
export function follow(url, token, on) {
  return token ? byFetch(url, token, on) : byEventSource(url, on);
}

function handlers(on) {
  return {
    message: (data) => on.text(data),
    base64: (data) => on.text(shown(Uint8Array.from(atob(data), (character) => character.charCodeAt(0)))),
    gap: (data) => on.gap(JSON.parse(data)),
    removed: () => on.removed(),
    end: (data) => on.ended(`The stream ended at ${JSON.parse(data).offset}: ${JSON.parse(data).reason}.`),
    failure: (data) => on.ended(JSON.parse(data).message ?? "The stream cannot be read any more."),
  };
}

/// Bytes as text, or in hexadecimal if they are not text.
function shown(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const first = [...bytes.slice(0, 32)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return `[${bytes.length} bytes: ${first}${bytes.length > 32 ? " …" : ""}]\n`;
  }
}

function byEventSource(url, on) {
  const source = new EventSource(url);
  for (const [name, handle] of Object.entries(handlers(on))) {
    source.addEventListener(name, (event) => handle(event.data));
  }
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) on.ended("The stream cannot be followed, or has ended.");
    else on.trouble("The connection broke; trying again.");
  });
  return () => source.close();
}

function byFetch(url, token, on) {
  const abort = new AbortController();
  const handle = handlers(on);
  let last = null;
  const read = async () => {
    const headers = { Accept: "text/event-stream", Authorization: `Bearer ${token}` };
    if (last !== null) headers["Last-Event-ID"] = last;
    const response = await fetch(url, { headers, signal: abort.signal, cache: "no-store" });
    if (response.status !== 200) return on.ended("The stream cannot be followed, or has ended.");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const lines = event.split("\n");
        const field = (name) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2));
        last = field("id").at(-1) ?? last;
        const data = field("data");
        if (data.length > 0) handle[field("event").at(-1) ?? "message"]?.(data.join("\n"));
      }
    }
  };
  const go = async () => {
    while (!abort.signal.aborted) {
      try {
        await read();
      } catch {
        if (abort.signal.aborted) return;
      }
      on.trouble("The connection broke; trying again.");
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  };
  void go();
  return () => abort.abort();
}
