// Polls the daemon once a second, and follows one stream. Data from streams is only put into text
// nodes.

import { follow } from "./follow.js";

const SECOND = 1000;
// Limits on the part of a stream that the page keeps.
const PIECES = 400;
const CHARACTERS = 200_000;

const at = (id) => document.getElementById(id);
const state = { token: sessionStorage.getItem("pfs-token"), chosen: null, seen: new Map(), stop: null, pieces: [] };

class Refused extends Error {}

function url(path, query = "") {
  return path.split("/").map(encodeURIComponent).join("/") + query;
}

async function ask(path) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const response = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(10 * SECOND) });
  if (response.status === 401) throw new Refused("the daemon does not accept this token");
  const body = await response.json();
  if (!response.ok) {
    const error = body.error?.message ?? body.error ?? `the daemon answers ${response.status}`;
    throw Object.assign(new Error(error), { status: response.status });
  }
  return body;
}

async function listing() {
  const below = at("where").path.value.trim().replace(/\/+$/, "");
  if (below) return ask(url(`${below}/`));
  const mounts = await ask("/api/v1/directories?path=/");
  const lists = await Promise.all(mounts.files.map((mount) => ask(url(`/${mount.name}/`))));
  return lists.flat();
}

// Human-readable numbers.

function bytes(count) {
  let [value, unit] = [count, "B"];
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024) break;
    [value, unit] = [value / 1024, next];
  }
  return `${unit === "B" || value >= 100 ? Math.round(value) : value.toFixed(1)} ${unit}`;
}

function since(time) {
  if (!time) return "never";
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / SECOND);
  if (seconds < 2) return "now";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return new Date(time).toLocaleString();
}

// Bytes per second between two polls.
function rate(stream, now) {
  const before = state.seen.get(stream.path);
  state.seen.set(stream.path, { head: stream.head, created: stream.created, now });
  if (!before || before.created !== stream.created || now <= before.now) return null;
  return ((stream.head - before.head) * SECOND) / (now - before.now);
}

function element(name, text, ...classes) {
  const made = document.createElement(name);
  made.textContent = text;
  made.classList.add(...classes.filter(Boolean));
  return made;
}

function row(cells, ...classes) {
  const made = element("tr", "", ...classes);
  made.append(...cells);
  return made;
}

const number = (text, ...classes) => element("td", text, "number", ...classes);

function showList(streams) {
  const now = performance.now();
  const rates = new Map(streams.map((stream) => [stream.path, rate(stream, now)]));
  const there = new Set(rates.keys());
  for (const path of state.seen.keys()) if (!there.has(path)) state.seen.delete(path);
  const focused = document.activeElement?.dataset?.path;
  at("streams").replaceChildren(...streams.map((stream) => {
    const link = element("button", stream.path);
    link.type = "button";
    link.dataset.path = stream.path;
    link.addEventListener("click", () => choose(stream.path));
    const path = element("td", "", "path");
    path.append(link);
    const speed = rates.get(stream.path);
    return row([
      path,
      element("td", stream.state, stream.state),
      number(speed ? `${bytes(speed)}/s` : "–", !speed && "quiet"),
      number(bytes(stream.head)),
      number(bytes(stream.size)),
      number(stream.writers),
      number(stream.readers),
      element("td", since(stream.last_append), "quiet"),
    ], stream.path === state.chosen && "chosen");
  }));
  if (focused) [...document.querySelectorAll("[data-path]")].find((link) => link.dataset.path === focused)?.focus();
  at("none").hidden = streams.length > 0;
  const total = [...rates.values()].reduce((sum, speed) => sum + (speed ?? 0), 0);
  const readers = streams.reduce((sum, stream) => sum + stream.readers, 0);
  const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  at("summary").textContent =
    `${counted(streams.length, "stream")}, ${counted(readers, "reader")}, ${bytes(total)}/s appended`;
}

function media({ format, header_bytes, last_sync, gop_bytes, gop_ms }) {
  const parts = [format, `header ${bytes(header_bytes)}`];
  if (last_sync !== null) parts.push(`last sync point at ${last_sync}`);
  if (gop_bytes !== null) parts.push(`GOP ${bytes(gop_bytes)}${gop_ms ? ` in ${gop_ms / 1000} s` : ""}`);
  return parts.join(", ");
}

function showOne(stat) {
  const stats = [
    ["state", stat.state],
    ["type", stat.content_type ?? "unknown"],
    ...(stat.media ? [["media", media(stat.media)]] : []),
    ["appended", `${bytes(stat.head)} in ${stat.chunks} chunks`],
    ["held", `${bytes(stat.size)} of ${bytes(stat.capacity)}`],
    ["offsets", `${stat.tail} to ${stat.head}`],
    ["recent rate", `${bytes(stat.rate)}/s`],
    ["lost by readers", bytes(stat.lost_bytes)],
    ["writers", `${stat.writers.length} now, ${stat.writers_finished} finished, ${stat.writers_died} died`],
    ["memory", bytes(stat.memory)],
    ["created", since(stat.created)],
  ];
  at("stats").replaceChildren(...stats.map(([name, value]) => {
    const pair = document.createElement("div");
    const isLoss = name === "lost by readers" && stat.lost_bytes > 0;
    pair.append(element("dt", name), element("dd", value, isLoss && "loss"));
    return pair;
  }));
  const writers = stat.writers.map((writer) => row([
    element("td", "writer"), element("td", writer.pid ?? "–"), number(bytes(writer.bytes)), number("–"),
    element("td", "–"), number("–"), element("td", writer.waiting ? "for a reader" : "", "loss"),
  ]));
  const readers = stat.readers.map((reader) => row([
    element("td", "reader"), element("td", reader.pid ?? "–"), number(reader.position), number(bytes(reader.lag)),
    element("td", reader.policy), number(bytes(reader.lost_bytes), reader.lost_bytes > 0 && "loss"),
    element("td", reader.blocking ? "blocks writers" : "", "loss"),
  ]));
  at("attached").replaceChildren(...writers, ...readers);
}

function choose(path) {
  stop();
  state.chosen = path;
  state.pieces = [];
  history.replaceState(null, "", path === null ? " " : `#${encodeURIComponent(path)}`);
  at("one").hidden = path === null;
  at("name").textContent = path ?? "";
  at("live").textContent = "";
  at("output").replaceChildren();
  at("stats").replaceChildren();
  at("attached").replaceChildren();
  if (path !== null) {
    start();
    void look();
  }
}

// Contents of the stream.

function start() {
  at("live").textContent = "The last 8 KB that the stream holds, then live data:";
  at("follow").textContent = "Stop";
  state.stop = follow(url(state.chosen, "?tail=8KB"), state.token, {
    text: (text) => put(text),
    gap: ({ from, to }) => put(`\n— ${to - from} bytes lost, ${from} to ${to} —\n`, "loss"),
    removed: () => put("\n— removed; the next stream of this name follows —\n", "loss"),
    ended: (why) => { at("live").textContent = why; stop(); },
    trouble: (why) => { at("live").textContent = why; },
  });
}

function stop() {
  state.stop?.();
  state.stop = null;
  at("follow").textContent = "Follow";
}

function put(text, ...classes) {
  if (state.pieces.length === 0) requestAnimationFrame(showPieces);
  state.pieces.push([text.slice(-CHARACTERS), classes]);
  if (state.pieces.length > PIECES) state.pieces.splice(0, state.pieces.length - PIECES);
}

function showPieces() {
  const output = at("output");
  const atEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 40;
  output.append(...state.pieces.map(([text, classes]) => element("span", text, ...classes)));
  state.pieces = [];
  let [kept, room] = [0, CHARACTERS];
  for (let piece = output.lastChild; piece && kept < PIECES && room > 0; piece = piece.previousSibling) {
    kept += 1;
    room -= piece.textContent.length;
  }
  while (output.childNodes.length > kept) output.firstChild.remove();
  if (atEnd) output.scrollTop = output.scrollHeight;
}

async function look() {
  try {
    showList(await listing());
    const chosen = state.chosen;
    if (chosen !== null) {
      const stat = await ask(url(chosen, "?stat"));
      if (chosen === state.chosen) showOne(stat);
    }
    at("trouble").hidden = true;
    at("login").hidden = true;
  } catch (error) {
    if (error instanceof Refused) {
      at("login").hidden = false;
      at("summary").textContent = "";
    }
    const gone = error instanceof TypeError ? "The daemon does not answer." : error.message;
    at("trouble").textContent = error instanceof Refused && !state.token ? "" : gone;
    at("trouble").hidden = at("trouble").textContent === "";
  }
}

async function watch() {
  if (!document.hidden && (at("login").hidden || state.token)) await look();
  setTimeout(watch, SECOND);
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = at("login").token.value.trim();
  sessionStorage.setItem("pfs-token", state.token);
  at("login").reset();
  if (state.chosen === null) void look();
  else choose(state.chosen);
});
at("where").addEventListener("submit", (event) => { event.preventDefault(); void look(); });
at("follow").addEventListener("click", () => (state.stop ? (stop(), at("live").textContent = "Stopped.") : choose(state.chosen)));
at("shut").addEventListener("click", () => choose(null));
const linked = decodeURIComponent(location.hash.slice(1));
if (linked) choose(linked);
void watch();
