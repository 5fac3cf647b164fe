// Where runs come from: the server that this page is from, or the page itself (a report).
(function (streamll) {
"use strict";

class Server {
  constructor(connection, askToken) {
    this.live = true;
    this.connection = connection;
    this.askToken = askToken;
    this.token = new URLSearchParams(location.hash.slice(1)).get("token") || sessionStorage.getItem("streamll-token") || "";
    if (this.token) sessionStorage.setItem("streamll-token", this.token);
  }
  async fetch(path, options = {}) {
    const headers = { ...options.headers };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    const answer = await fetch(path, { ...options, headers });
    if (answer.status !== 401) return answer;
    this.token = await this.askToken();
    sessionStorage.setItem("streamll-token", this.token);
    return this.fetch(path, options);
  }
  async json(path, options) {
    const answer = await this.fetch(path, options);
    const body = await answer.json();
    if (!answer.ok) throw new Error(typeof body.error === "string" ? body.error : body.error?.message || body.message || body.detail || `the server says ${answer.status}`);
    return body;
  }
  async runs() { return (await this.json("runs")).runs; }
  async programs() { return (await this.json("programs")).programs; }
  start(program, inputs) {
    return this.json("runs", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ program, inputs }),
    });
  }
  stop(id) { return this.fetch(`runs/${encodeURIComponent(id)}`, { method: "DELETE" }); }

  /** Read a run from its beginning; the browser itself comes back where a line broke. */
  open(id, add) {
    const query = this.token ? `?token=${encodeURIComponent(this.token)}` : "";
    const stream = new EventSource(`runs/${encodeURIComponent(id)}/events${query}`);
    stream.onopen = () => this.connection("");
    stream.onmessage = (message) => {
      const event = JSON.parse(message.data);
      add(event);
      if (streamll.STATUS[event.event_type]) { stream.close(); this.connection(""); }
    };
    stream.onerror = () => this.connection(stream.readyState === EventSource.CLOSED ? "not connected" : "connecting again…");
    return () => { stream.close(); this.connection(""); };
  }
}

/** A report has all its events inside. */
class Enclosed {
  constructor(events) {
    this.live = false;
    this.byRun = new Map();
    for (const event of events) {
      if (!event.run_id) continue;
      if (!this.byRun.has(event.run_id)) this.byRun.set(event.run_id, []);
      this.byRun.get(event.run_id).push(event);
    }
  }
  async runs() {
    return [...this.byRun].map(([id, events]) => {
      const last = events.at(-1), begun = events.find((event) => event.event_type === "run.start");
      return {
        run_id: id, program: begun ? begun.program : "run", started_at: events[0].timestamp,
        status: streamll.STATUS[last.event_type] || "unfinished", ended_at: last.timestamp,
      };
    });
  }
  async programs() { return []; }
  open(id, add) {
    for (const event of this.byRun.get(id) || []) add(event);
    return () => {};
  }
}

Object.assign(streamll, { Server, Enclosed });
})(window.streamll = window.streamll || {});
