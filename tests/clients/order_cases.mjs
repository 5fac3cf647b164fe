// What may come between two steps of a reader: orders that no server can be made to keep, so `fetch` and the socket are the
// cases' own, and say what a server says. Standard input: {module}; standard output: what became of each case, as JSON.
import { getEventListeners } from "node:events";
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const { joinRun, openRun, startRun } = await import(JSON.parse(readFileSync(0, "utf8")).module);
const results = {}, raised = [];
process.on("uncaughtException", (error) => raised.push(error.message));

const token = (seq, text, offset) => ({ event_type: "token", seq, timestamp: 1, run_id: "r", call_id: "c", field: "answer", token: text, token_index: seq - 2, offset });
const RUN = [
  { event_type: "run.start", seq: 0, timestamp: 1, run_id: "r", program: "qa" },
  { event_type: "field.start", seq: 1, timestamp: 1, run_id: "r", call_id: "c", field: "answer" },
  token(2, "one ", 0), token(3, "two ", 4), token(4, "three", 8),
  { event_type: "field.end", seq: 5, timestamp: 1, run_id: "r", call_id: "c", field: "answer" },
  { event_type: "run.end", seq: 6, timestamp: 1, run_id: "r", lm_calls: 1 },
];
const stream = (events) => new Response(events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(""), { headers: { "content-type": "text/event-stream" } });
const whole = async () => stream(RUN); // all of it in one piece
const join = (options) => joinRun({ base: "http://server/", runId: "r", compact: false, backoff: { first: 1, max: 1 }, ...options });
const turn = () => new Promise(setImmediate);
/** What a promise has come to once all that is under way has been done. */
async function outcome(promise) {
  let found = "waits";
  promise.then((value) => { found = value?.values?.answer ?? "done"; }, (error) => { found = error.code || error.name; });
  for (let n = 0; n < 20 && found === "waits"; n++) await turn();
  return found;
}

// Loops that are broken off, while the rest of the run and its end have come.
{
  const run = join({ fetch: whole }), had = [];
  for await (const { seq } of run) if (had.push(seq) === 3) break;
  for await (const { seq } of run) if (had.push(seq) === 5) break;
  for await (const { seq } of run) had.push(seq);
  results.broken = had;
}

// Positions that a service keeps with what it has done, before it crashes behind this event.
results.positions = [];
for (const stopAt of [0, 2, 3, 5]) {
  const run = join({ fetch: whole });
  let kept;
  for await (const event of run) {
    kept = run.position;
    if (event.seq === stopAt) break;
  }
  results.positions.push([kept, run.position]);
}

// A connection that is lost while a loop has not had all that has come on it.
{
  const asked = [], had = [];
  const fetch = async (url) => stream(asked.push(url.searchParams.get("after")) > 1 ? RUN.slice(4) : RUN.slice(0, 4));
  for await (const { seq } of join({ fetch })) {
    had.push(seq);
    while (seq === 0 && asked.length < 2) await turn();
  }
  results.lost = { asked, had };
}

// Closed while a run without events is asked for its status.
{
  let answer;
  const told = new Promise((resolve) => { answer = () => resolve(Response.json({ status: "ended" })); });
  let asks = false;
  const run = join({ fetch: async (url) => (url.pathname.endsWith("/events") ? new Response(null, { status: 204 }) : ((asks = true), told)) });
  run.subscribe(() => {});
  while (!asks) await turn();
  run.close();
  answer();
  await turn();
  results.closed = await outcome(run.result());
}

// A route of one's own, before an event has said which run it is: refused, closed, left by its only reader.
{
  const refused = openRun("http://server/ask", { body: {}, stop: (id) => `http://server/stop/${id}`, fetch: async () => Response.json({ error: "no" }, { status: 422 }) });
  const waiting = [refused.started, refused.stop(), refused.answer("q", 1), refused.result()].map(outcome);
  const closed = openRun("http://server/ask", { body: {}, fetch: () => new Promise(() => {}) });
  closed.subscribe(() => {});
  closed.close();
  const posts = [];
  let send;
  const fetch = (_, { signal }) => new Promise((resolve, reject) => {
    posts.push(signal);
    signal.addEventListener("abort", () => reject(signal.reason));
    send = () => resolve(stream(RUN));
  });
  const left = openRun("http://server/ask", { body: {}, fetch });
  left.subscribe(() => {})();
  await new Promise((done) => setTimeout(done, 10)); // it is a timer that gives up what nobody reads
  const result = outcome(left.result());
  send();
  results.unknown = { refused: await Promise.all(waiting), closed: await outcome(closed.started), left: await result, posts: posts.length };
}

// Callbacks that raise: whoever wrote them hears of it, and the run is read on.
results.raising = {};
for (const raises of ["connecting", "open", "closed"]) {
  const run = join({ fetch: whole, onConnection: ({ state }) => { if (state === raises) throw new Error(raises); } });
  results.raising[raises] = await outcome(run.result());
}
{
  const run = join({ fetch: whole });
  let heard;
  run.subscribe(() => { throw new Error("listener"); });
  run.subscribe(() => { heard = run.status; });
  results.raising.listener = await outcome(run.result());
  await turn();
  results.raising.heard = heard;
  results.raising.raised = [...new Set(raised)];
}

// A WebSocket whose other side is gone: nothing comes, and nothing answers when it is closed.
{
  const places = [], states = [];
  class Socket {
    constructor(url) {
      const attempt = places.push(new URL(url).searchParams.get("after"));
      queueMicrotask(() => {
        this.onopen();
        for (const event of attempt === 1 ? RUN.slice(0, 3) : attempt < 4 ? [] : RUN.slice(3)) this.onmessage({ data: JSON.stringify(event) });
      });
    }
    close() {}
  }
  const run = join({ transport: "websocket", WebSocket: Socket, silence: 20, retries: 1, onConnection: ({ state }) => states.push(state) });
  const result = await Promise.race([run.result(), new Promise((done) => setTimeout(done, 20_000, null))]);
  results.silent = { answer: result?.values.answer, places, waited: states.includes("waiting") };
}

// Fields that have ended as null, which is no text.
{
  const nothing = { event_type: "field.partial", seq: 5, timestamp: 1, run_id: "r", call_id: "c", field: "answer", value: null, state: "complete" };
  const fetch = async () => stream([...RUN.slice(0, 2), token(2, "null", 0), nothing, RUN.at(-1)]);
  results.nothing = (await join({ fetch }).result()).values;
}

// Tokens and places: what is said to be undefined takes the place of nothing.
{
  const address = "http://server/runs/r?token=own&after=r:1", nothing = { token: undefined, after: undefined };
  const place = { base: "http://server/", runId: "r", token: "own", after: "r:1" };
  const runs = [joinRun(address, nothing), joinRun(place, nothing), joinRun(address, { token: "other", after: "r:2" }), joinRun(place, { token: "other", after: "r:2" })];
  results.places = runs.map((run) => [run.token, run.position]);
}

// Starts that are refused for now: nothing was started.
results.refusals = [];
for (const status of [429, 503]) {
  const fetch = async () => Response.json({ error: "not now" }, { status, headers: { "retry-after": "3" } });
  for (const run of [openRun("http://server/ask", { body: {}, fetch }), startRun("http://server/", { inputs: {}, fetch })]) {
    results.refusals.push(await run.result().catch(({ code, message, retryAfter }) => [code, message, retryAfter]));
  }
}

// Many runs, one after the other, with a signal that outlives them.
{
  const { signal } = new AbortController();
  for (let n = 0; n < 5; n++) await join({ fetch: whole, signal }).result();
  const aborted = new AbortController(), run = join({ fetch: whole, signal: aborted.signal });
  aborted.abort();
  const left = await outcome(run.result());
  results.signals = [left, ...[signal, aborted.signal].map((each) => getEventListeners(each, "abort").length)];
}

// A loop that is always one event behind forgets what it has had.
{
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc"), note = (seq) => ({ event_type: "status", seq, timestamp: 1, run_id: "r", message: `${seq}` });
  let server;
  const fetch = async () => new Response(new ReadableStream({ start(controller) { server = controller; } }), { headers: { "content-type": "text/event-stream" } });
  const run = join({ fetch }), events = run[Symbol.asyncIterator](), encoder = new TextEncoder(), had = [];
  const send = (seq) => server.enqueue(encoder.encode(`data: ${JSON.stringify(note(seq))}\n\n`));
  while (!server) await turn();
  send(0);
  for (let seq = 1; seq <= 3000; seq++) {
    send(seq);
    while (run.snapshot().message !== `${seq}`) await turn();
    const { value } = await events.next();
    had.push(new WeakRef(value));
    if (value.seq !== seq - 1) throw new Error(`${value.seq} came`);
  }
  await turn();
  collect();
  results.behind = had.filter((each) => each.deref()).length;
  run.close();
}

// What a server says of a run whose end was read before: what it does not know is left out, as in events.
{
  const told = { status: "ended", duration: 1, lm_calls: 1, cost: null, error_type: null, error: null };
  const fetch = async (url) => (url.pathname.endsWith("/events") ? new Response(null, { status: 204 }) : Response.json(told));
  results.totals = (await join({ fetch, after: "r:6" }).result()).usage;
}

process.stdout.write(JSON.stringify(results), () => process.exit());
