// Where runs come from: the server that this page is from, or the page itself (a report).
(function (streamll) {
"use strict";

const OF_ONE_RUN = /^([0-9a-f]+)\.\d+\.[\w-]+$/; // a token that is good for one run

/** What the tab keeps; nothing in a frame of another page (a notebook's cell), which may keep nothing. */
const ofTab = {
  get token() { try { return sessionStorage.getItem("streamll-token"); } catch { return null; } },
  set token(value) { try { sessionStorage.setItem("streamll-token", value); } catch { /* as said */ } },
};

class Unauthorized extends Error {}

class Server {
  /** `told(what)`: how the connection is, "" when it is well. `askToken(refused)` asks for one. */
  constructor(told, askToken) {
    this.live = true;
    this.told = told;
    this.askToken = askToken;
    this.token = new URLSearchParams(location.hash.slice(1)).get("token") || ofTab.token || "";
    this.keep(this.token);
  }
  keep(token) {
    this.token = token;
    this.waved = false; // whoever closed the question is not asked again by what comes by itself
    if (token) ofTab.token = token;
  }
  /** The run that the token is for, if it is for one only. */
  get only() { return (OF_ONE_RUN.exec(this.token) || [])[1] || null; }

  async fetch(path, options = {}) {
    const headers = { ...options.headers }, token = this.token;
    if (token) headers.authorization = `Bearer ${token}`;
    const answer = await fetch(path, { ...options, headers });
    if (answer.status !== 401) return answer;
    if (token === this.token) await this.ask(token);
    return this.fetch(path, options);
  }
  async ask(refused) {
    if (this.waved) throw new Unauthorized("a token is needed");
    const token = await this.askToken(Boolean(refused));
    if (token === null) { this.waved = true; throw new Unauthorized("a token is needed"); }
    this.keep(token);
  }
  async json(path, options) {
    const answer = await this.fetch(path, options);
    const body = await answer.json();
    if (!answer.ok) {
      const said = typeof body.error === "string" ? body.error : body.error?.message || body.message || body.detail || `the server says ${answer.status}`;
      throw Object.assign(new Error(said), { problems: body.problems, status: answer.status });
    }
    return body;
  }
  /** `{runs, more, searched}` for a query of `GET /runs`. */
  async runs(query) {
    if (!this.only) return this.json(query ? `runs?${query}` : "runs");
    const run = await this.json(`runs/${this.only}`);
    return { runs: [{ run_id: this.only, program: run.program || "run", status: run.status, started_at: run.started_at, ended_at: run.ended_at, open_questions: (run.questions || []).length }] };
  }
  async report(id) {
    const answer = await this.fetch(`runs/${encodeURIComponent(id)}/report`);
    if (!answer.ok) throw new Error(`the server says ${answer.status}`);
    return answer.blob();
  }
  async programs() { return this.only ? [] : (await this.json("programs")).programs; }
  start(program, inputs) {
    return this.json("runs", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ program, inputs }),
    });
  }
  answer(id, body) {
    return this.json(`runs/${encodeURIComponent(id)}/answers`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  }
  stop(id) { return this.json(`runs/${encodeURIComponent(id)}`, { method: "DELETE" }); }

  /** Read a run behind the event `last()`, over any break; returns how to end that. */
  open(id, add, last) {
    const after = last() >= 0 ? `${id}:${last()}` : null, token = (refused) => this.tokenFor(refused);
    const run = streamll.joinRun({ base: ".", runId: id, after, token, onConnection: (connection) => this.tell(connection) });
    const read = async () => { for await (const event of run) add(event); };
    read().catch(() => {}); // `tell` has been told
    return () => run.close();
  }
  async tokenFor(refused) {
    if (refused === this.token) await this.ask(refused);
    return this.token;
  }
  tell({ state, failures, error }) {
    if (state === "open" || (state === "closed" && !error)) this.told("");
    else if (error instanceof Unauthorized) this.told(error.message);
    else if (state === "waiting") this.told(failures > 1 ? "the server does not answer" : "connecting again…");
    else if (state === "closed") this.told(error.code === "not_found" ? "this run is not on the server" : error.message);
  }
}

/** A report has all its events inside. */
class Enclosed {
  constructor(events) {
    this.live = false;
    this.only = null;
    this.byRun = new Map();
    this.texts = new Map();
    for (const event of events) {
      if (!event.run_id) continue;
      if (!this.byRun.has(event.run_id)) this.byRun.set(event.run_id, []);
      this.byRun.get(event.run_id).push(event);
    }
  }
  async runs(query) {
    const runs = [...this.byRun].map(([id, events]) => {
      const last = events.at(-1), begun = events.find((event) => event.event_type === "run.start");
      return {
        run_id: id, program: begun ? begun.program : "run", started_at: events[0].timestamp, title: streamll.titleOf(begun && begun.inputs),
        status: streamll.STATUS[last.event_type] || "unfinished", ended_at: last.timestamp, context: last.context || {},
      };
    });
    return { runs: streamll.wanted(runs, query, (run) => this.textOf(run.run_id)) };
  }
  /** What a run was asked and has written; kept, since a report does not change. */
  textOf(id) {
    if (!this.texts.has(id)) this.texts.set(id, this.read(id));
    return this.texts.get(id);
  }
  read(id) {
    const run = new streamll.Run(id), said = [];
    for (const event of this.byRun.get(id)) {
      run.feed(event);
      if (event.event_type === "run.start") said.push(JSON.stringify(event.inputs ?? ""));
    }
    for (const node of run.nodes.values()) for (const attempt of node.attempts.values()) for (const field of attempt.fields.values()) said.push(field.text);
    return [...said, run.error || ""].join("\n");
  }
  async programs() { return []; }
  open(id, add) {
    for (const event of this.byRun.get(id) || []) add(event);
    return () => {};
  }
}

Object.assign(streamll, { Server, Enclosed, Unauthorized });
})(window.streamll = window.streamll || {});
