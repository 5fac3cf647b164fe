// Everything the client is asked to do in Node, in one process. Standard input: {module, url, port, …};
// standard output: what became of each case, as JSON.
import { readFileSync } from "node:fs";
import http from "node:http";
import { cutting } from "./cutting.mjs";

const given = JSON.parse(readFileSync(0, "utf8"));
const client = await import(given.module), { WebSocket } = await import(given.ws);
// Node 20 has no WebSocket of its own.
const startRun = (base, options) => client.startRun(base, { WebSocket, ...options });
const joinRun = (run, options) => client.joinRun(run, { WebSocket, ...options });
const { openRun } = client;
const QUICK = { backoff: { first: 1, max: 20 }, token: given.token };
const results = {};
const outcome = async (work) => {
  try {
    return await work;
  } catch (error) {
    return { code: error.code ?? error.name, message: error.message, status: error.status, problems: error.problems };
  }
};
async function events(run) {
  const all = [];
  for await (const event of run) all.push(event);
  return all;
}
const shown = (run) => run.snapshot().fields.map(({ name, text, value, corrected }) => [name, text, value, corrected]);

// Every run of the table, in every form, whole and cut.
results.runs = {};
for (const transport of ["sse", "websocket"]) {
  for (const compact of [true, false]) {
    for (const every of [0, given.every]) {
      const line = every ? await cutting(given.port, every) : { url: given.url, cuts: 0, close() {} };
      const read = {};
      await Promise.all(given.runs.map(async (runId) => {
        const run = joinRun({ base: line.url, runId, transport, compact, ...QUICK });
        const all = await events(run);
        read[runId] = { events: all, fields: shown(run), status: run.status, error: run.error?.message, retries: run.snapshot().retries };
      }));
      line.close();
      results.runs[`${transport} ${compact ? "compact" : "full"} ${every ? "cut" : "whole"}`] = { read, cuts: line.cuts };
    }
  }
}

// Resumed at every position of a run, also in the middle of tokens: together with what was had, it is the run.
results.positions = await Promise.all(given.positions.map(async (after) => (await events(joinRun({ base: given.url, runId: after.split(":")[0], after, token: given.token }))).map((event) => event.seq)));

// Very many tokens.
{
  const run = joinRun({ base: given.url, runId: given.long, token: given.token });
  let told = 0, text = "";
  run.subscribe(() => { told++; text = run.snapshot().fields[0]?.text ?? ""; });
  const result = await run.result();
  results.long = { told, same: text === result.fields[0].text, length: text.length, sum: [...text].reduce((sum, one) => (sum * 31 + one.codePointAt(0)) % 1000003, 7) };
}

// A program that runs: started, its fields as they grow, snapshots that do not change.
{
  const seen = [];
  const run = startRun(given.url, { program: "qa", inputs: { question: "?" }, context: { conversation_id: "c1" }, token: given.token });
  run.subscribe(() => seen.push(run.snapshot()));
  const result = await run.result();
  const first = seen.find((each) => each.fields.length), frozen = JSON.stringify(first);
  results.started = {
    values: result.values, status: run.status, usage: result.usage.lm_calls, token: run.token !== given.token,
    grows: seen.every((each, n) => !n || (each.fields[0]?.text ?? "").startsWith(seen[n - 1].fields[0]?.text ?? "")),
    same: run.snapshot() === run.snapshot(), frozen: JSON.stringify(first) === frozen,
    again: (await joinRun(`${given.url}/runs/${run.id}/events?token=${run.token}`).result()).values,
    late: (await outcome(run.stop())) === undefined,
  };
}

// Stopped in the middle, by somebody else's reader as well; its texts stay.
{
  const run = startRun(given.url, { program: "slow", inputs: { question: "?" }, token: given.token });
  for await (const event of run) if (event.event_type === "token") break;
  const other = joinRun({ base: given.url, runId: run.id, token: run.token, transport: "websocket" });
  for await (const event of other) if (event.event_type === "token") await other.stop();
  results.stopped = { other: other.status, text: other.text("answer").length > 0, result: await outcome(run.result()), status: run.status };
}

// A question of the program: open, answered wrongly, answered.
{
  const run = startRun(given.url, { program: "asking", inputs: { question: "?" }, token: given.token });
  run.subscribe(() => {});
  results.asking = {};
  for await (const event of run) {
    if (event.event_type !== "question") continue;
    results.asking.open = run.snapshot().questions.map((one) => one.text);
    results.asking.wrong = await outcome(joinRun({ base: given.url, runId: run.id, token: given.token }).answer(event.question_id, 7));
    results.asking.taken = await run.answer(event.question_id, "blue", "ada");
    results.asking.late = await outcome(run.decline(event.question_id));
  }
  results.asking.rest = run.snapshot().questions.length;
  results.asking.status = run.status;
  results.asking.said = await outcome(run.result().then((result) => result.values.answer));
}

// Left: nobody reads, so it is idle; whoever comes back reads on behind.
{
  const run = startRun(given.url, { program: "slow", inputs: { question: "?" }, token: given.token }), states = [];
  const had = [];
  for await (const event of run) if (had.push(event.seq) >= 4) break;
  while (run.snapshot().connection.state !== "idle") await new Promise((done) => setTimeout(done, 5));
  for await (const event of run) if (had.push(event.seq) >= 8) break;
  await run.stop();
  results.left = { had };
  const controller = new AbortController(), aborted = startRun(given.url, { program: "slow", inputs: { question: "?" }, token: given.token, signal: controller.signal });
  await aborted.started;
  setTimeout(() => controller.abort(), 1);
  results.aborted = [await outcome(events(aborted).then((all) => all.length >= 0 && "ended")), await outcome(aborted.result()), aborted.status];
  await aborted.stop();
}

// What is refused.
const none = { base: given.url, runId: "0123456789abcdef", token: given.token };
const refused = { base: given.url, runId: given.runs[0], token: "wrong" };
results.refused = {
  unknown: await outcome(joinRun(none).result()),
  unknownSocket: await outcome(joinRun({ ...none, transport: "websocket" }).result()),
  token: await outcome(joinRun(refused).result()),
  tokenSocket: await outcome(joinRun({ ...refused, transport: "websocket" }).result()),
  start: await outcome(startRun(given.url, { program: "qa", inputs: {}, token: given.token }).result()),
  nobody: await outcome(startRun("http://127.0.0.1:9/", { inputs: {} }).result()),
  gaveUp: await outcome(joinRun({ base: "http://127.0.0.1:9/", runId: "x", retries: 2, ...QUICK }).result()),
  address: await outcome((async () => joinRun("http://127.0.0.1:9/elsewhere"))()),
};
// A token of the user's own making: the run's takes its place.
{
  const run = startRun(given.url, { program: "qa", inputs: { question: "?" }, headers: { Authorization: `Bearer ${given.token}` } });
  const { status } = await outcome(run.result());
  results.header = [status, run.token !== undefined];
}

// A token is asked for once it is refused.
{
  const asked = [];
  const token = (refusedToken) => (asked.push(refusedToken ?? null), asked.length < 3 ? `wrong ${asked.length}` : given.token);
  const run = joinRun({ base: given.url, runId: given.runs[0], token });
  await run.result();
  results.asked = { asked, status: run.status };
}

// What the server answers when it cannot: each has its own outcome, and the reader comes back where it may.
const events0 = results.runs["sse full whole"].read[given.runs[0]].events, visits = {};
const other = http.createServer((request, response) => {
  const url = new URL(request.url, "http://x"), [, name, , , what] = decodeURIComponent(url.pathname).split("/");
  if (!what) return response.end(JSON.stringify({ status: "failed", error_type: "ValueError" }));
  const first = !visits[name], after = Number(url.searchParams.get("after")?.split(":")[1] ?? -1);
  visits[name] = true;
  if (name === "page") return response.writeHead(200, { "content-type": "text/html" }).end("<p>");
  if (name === "over") return response.writeHead(204).end();
  if (first && name === "busy") return response.writeHead(429, { "retry-after": "0.05" }).end("{}");
  if (first && name === "away") return response.writeHead(503).end("{}");
  response.writeHead(200, { "content-type": "text/event-stream" });
  const rest = events0.filter((event) => event.seq > after), send = (data) => response.write(`data: ${JSON.stringify(data)}\r\n\r\n`);
  if (name === "again") { // a server that knows no positions, and has merged its tokens meanwhile
    const gap = { event_type: "stream.gap", timestamp: 0, run_id: given.runs[0], count: 2, reason: "overflow" };
    const { count, ...token } = events0.find((event) => event.seq === 3), start = events0.slice(0, 3), end = events0.filter((event) => event.seq > 5);
    const had = [...start, { ...token, token: "Mach" }, gap], all = [gap, ...start, { ...token, token: "Machine learning", count: 3 }, ...end];
    (first ? had : all).forEach(send);
    return response.end();
  }
  if (name === "garbled" && url.searchParams.has("compact")) send([99, 3, 0, "x"]);
  else if (first && name === "sent away") rest.slice(0, 3).forEach(send);
  else if (first && name === "error at the end") [...rest.slice(0, 3), { event_type: "stream.error", timestamp: 0, data: { message: "the log is away" } }].forEach(send);
  else rest.forEach(send);
  response.end();
});
other.keepAliveTimeout = 600_000; // else a pause of this process may end a connection as it is used again
await new Promise((done) => other.listen(0, "127.0.0.1", done));
const elsewhere = `http://127.0.0.1:${other.address().port}`;
results.answers = {};
for (const name of ["busy", "away", "sent away", "error at the end", "over", "page", "garbled", "again"]) {
  const delays = [];
  const run = joinRun({ base: `${elsewhere}/${encodeURIComponent(name)}`, runId: given.runs[0], ...QUICK, onConnection: ({ state, delay }) => state === "waiting" && delays.push(delay >= 50 ? "as asked" : "soon") });
  const all = await outcome(events(run).then((all) => all.map((event) => event.seq ?? event.event_type)));
  results.answers[name] = { all, status: run.status, delays, text: run.text("answer") };
}
other.close();

// Routes of one's own, with a log and without.
{
  const stop = (id) => `${given.own}/stop/${id}`;
  const line = await cutting(new URL(given.own).port, given.every);
  const cut = openRun(`${line.url}events/kept`, { body: { question: "?" }, stop, ...QUICK });
  const all = await events(cut);
  line.close();
  results.own = {
    kept: { cuts: line.cuts, seqs: all.map((event) => event.seq), text: cut.text("answer") },
    stopped: await (async () => {
      const run = openRun(`${given.own}/events/slow`, { body: { question: "?" }, stop });
      for await (const event of run) if (event.event_type === "token") await run.stop();
      return run.status;
    })(),
    unkept: await (async () => {
      const other = await cutting(new URL(given.own).port, given.every);
      const run = openRun(`${other.url}events/unkept`, { body: { question: "?" }, ...QUICK });
      const problem = await outcome(run.result());
      other.close();
      return [problem, run.status];
    })(),
  };
}

// Twenty at once.
{
  const runs = Array.from({ length: 20 }, (_, n) => startRun(given.url, { program: "echo", inputs: { question: `number ${n}` }, token: given.token, transport: n % 2 ? "websocket" : "sse" }));
  results.twenty = (await Promise.all(runs.map((run) => run.result()))).map((result) => result.values.answer);
}

process.stdout.write(JSON.stringify(results), () => process.exit(0));
