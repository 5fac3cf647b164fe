// Where runs come from: the server that this page is from, or the page itself (a report).
(function (streamll) {
"use strict";

const PATIENCE = [500, 1000, 2000, 5000, 10000]; // milliseconds until the page asks again, and again
const OF_ONE_RUN = /^([0-9a-f]+)\.\d+\.[\w-]+$/; // a token that is good for one run

class Unauthorized extends Error {}

class Server {
  /** `told(what)`: how the connection is, "" when it is well. `askToken(refused)` asks for one. */
  constructor(told, askToken) {
    this.live = true;
    this.told = told;
    this.askToken = askToken;
    this.token = new URLSearchParams(location.hash.slice(1)).get("token") || sessionStorage.getItem("streamll-token") || "";
    this.keep(this.token);
  }
  keep(token) {
    this.token = token;
    this.waved = false; // whoever closed the question is not asked again by what comes by itself
    if (token) sessionStorage.setItem("streamll-token", token);
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
      throw Object.assign(new Error(said), { problems: body.problems });
    }
    return body;
  }
  /** `{runs, more, searched}` for a query of `GET /runs`. */
  async runs(query) {
    if (!this.only) return this.json(query ? `runs?${query}` : "runs");
    const run = await this.json(`runs/${this.only}`);
    return { runs: [{ run_id: this.only, program: run.program || "run", status: run.status, started_at: run.started_at, ended_at: run.ended_at }] };
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
  stop(id) { return this.fetch(`runs/${encodeURIComponent(id)}`, { method: "DELETE" }); }

  /** Read a run from its beginning. The browser comes back where a line broke; where the server
   *  sent it away (a token, too many readers, a restart), we do, behind the last event: `last()`. */
  open(id, add, last) {
    const path = `runs/${encodeURIComponent(id)}`;
    let stream = null, timer = 0, tries = 0, left = false;
    const end = () => { left = true; clearTimeout(timer); if (stream) stream.close(); };
    const begin = () => {
      const query = new URLSearchParams();
      if (this.token) query.set("token", this.token);
      if (last() >= 0) query.set("after", `${id}:${last()}`);
      stream = new EventSource(`${path}/events?${query}`);
      stream.onopen = () => { tries = 0; this.told(""); };
      stream.onmessage = (message) => {
        const event = JSON.parse(message.data);
        add(event);
        if (streamll.STATUS[event.event_type]) { end(); this.told(""); }
      };
      stream.onerror = () => {
        if (left) return;
        this.told("connecting again…");
        if (stream.readyState === EventSource.CLOSED) again();
      };
    };
    const again = () => { timer = setTimeout(look, PATIENCE[Math.min(tries++, PATIENCE.length - 1)]); };
    const look = async () => {
      try {
        const answer = await this.fetch(path); // asks for a token, if that is what is missing
        if (left) return;
        if (answer.status === 404) { end(); this.told("this run is not on the server"); return; }
        begin();
      } catch (problem) {
        if (left) return;
        this.told(problem instanceof Unauthorized ? problem.message : "the server does not answer");
        again();
      }
    };
    begin();
    return () => { end(); this.told(""); };
  }
}

/** A report has all its events inside. */
class Enclosed {
  constructor(events) {
    this.live = false;
    this.only = null;
    this.byRun = new Map();
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
  /** What a run was asked and has written. */
  textOf(id) {
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
