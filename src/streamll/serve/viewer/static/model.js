// What a run has come to: events in, nodes and texts out. Knows neither the page nor the network.
(function (streamll) {
"use strict";

/** Names to look up what a run says; one may be called "constructor". */
const named = (entries) => Object.assign(Object.create(null), entries);

const KINDS = named({ module: "module", lm: "lm", tool: "tool", trace: "trace", evaluate: "evaluate", compile: "compile" });
const STATUS = named({ "run.end": "ended", "run.error": "failed", "run.cancelled": "cancelled" });

/** Tokens, which are null where the provider has not said how many. */
const COUNTS = ["prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"];

/** What a call ends with when its program is stopped; that is no failure of it. */
const STOPPED = new Set(["Unwind", "CancelledError"]);

/** The number of code points, which is what offsets count; JavaScript counts UTF-16 units. */
function codePoints(text) {
  let pairs = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0xd800 && unit < 0xdc00) pairs++;
  }
  return text.length - pairs;
}

/** The first `count` code points of a text. */
function upTo(text, count) {
  let end = 0;
  while (count-- > 0 && end < text.length) end += text.codePointAt(end) > 0xffff ? 2 : 1;
  return text.slice(0, end);
}

class Field {
  constructor(name) {
    this.name = name;
    this.parts = [];
    this.length = 0;
    this.done = false;
    this.complete = true;
    this.corrected = false;
    this.typed = false;
    this.value = undefined;
    this.growing = null; // the place in the value that is written now
    this.version = 0; // changes when text that has been shown is no longer right
  }
  get text() {
    if (this.parts.length > 1) this.parts = [this.parts.join("")];
    return this.parts[0] || "";
  }
  put(token, offset) {
    if (offset < this.length) { // had it already: after a reconnection
      this.replace(upTo(this.text, offset));
    }
    this.parts.push(token);
    this.length += codePoints(token);
  }
  replace(text) {
    this.parts = [text];
    this.length = codePoints(text);
    this.version++;
  }
  partial(event) {
    const place = event.pointer || [];
    this.typed = true;
    this.value = placed(this.value, place, 0, event.value, event.append === true);
    this.growing = event.state === "complete" ? (place.length ? place.slice(0, -1) : null) : place;
    this.version++;
  }
}

/** A value with a change in it. Containers of an event are copied: they grow, and it is kept. */
function placed(whole, place, depth, value, append) {
  if (depth === place.length) return append ? joined(whole, value) : own(value);
  const key = place[depth];
  const base = whole !== null && typeof whole === "object" ? whole : typeof key === "number" ? [] : {};
  if (Array.isArray(base) && !(key >= 0 && key <= base.length)) return base; // what is before it was lost
  const inner = Object.hasOwn(base, key) ? base[key] : undefined;
  set(base, key, placed(inner, place, depth + 1, value, append));
  return base;
}

/** Like an assignment, but `__proto__` is a name like any other. */
function set(base, key, value) {
  Object.defineProperty(base, key, { value, enumerable: true, configurable: true, writable: true });
}

function own(value) {
  if (Array.isArray(value)) return [...value];
  return value !== null && typeof value === "object" ? { ...value } : value;
}

function joined(before, more) {
  if (typeof before === "string" && typeof more === "string") return before + more;
  if (Array.isArray(before) && Array.isArray(more)) before.push(...more);
  else if (before && more && typeof before === "object" && typeof more === "object") for (const key of Object.keys(more)) set(before, key, more[key]);
  else return before === undefined ? own(more) : before;
  return before;
}

class Attempt {
  constructor(number, candidate) {
    this.number = number;
    this.candidate = candidate;
    this.fields = new Map();
    this.superseded = null;
    this.thinking = new Field("thinking");
    this.refusal = new Field("refusal");
    this.calls = new Map(); // native tool calls, as the model writes them
    this.sources = [];
  }
  field(name) {
    if (!this.fields.has(name)) this.fields.set(name, new Field(name));
    return this.fields.get(name);
  }
}

class Node {
  constructor(id, kind, name, parent, start) {
    Object.assign(this, { id, kind, name, parent, start, end: null, status: "running" });
    this.depth = parent ? parent.depth + 1 : 0;
    this.children = [];
    this.attempts = new Map();
    this.first = null; // when its first token came
    this.predictor = null;
    this.turn = 0;
    this.error = null;
    this.failure = null; // the same as its type and message
    this.lm = null;
    this.detail = {};
    this.retried = []; // when an attempt of it was given up
    this.times = kind === "lm" ? new streamll.Times(start) : null;
    this.spent = null; // tokens and cost of the model calls of it and below it that are over
    this.former = null; // the call before of the same predictor
    this.results = kind === "evaluate" || kind === "compile" ? new streamll.Results() : null;
    this.many = Boolean(parent && (parent.many || parent.results)); // one of very many calls
  }
  attempt(event) {
    const number = event.attempt || 0, candidate = event.candidate || 0;
    const key = `${number}.${candidate}`;
    if (!this.attempts.has(key)) this.attempts.set(key, new Attempt(number, candidate));
    return this.attempts.get(key);
  }
}

class Run {
  constructor(id) {
    this.id = id;
    this.program = "";
    this.status = "running";
    this.start = null;
    this.now = null; // the time of the latest event
    this.first = null;
    this.totals = { lm_calls: 0, cost: null, ...Object.fromEntries(COUNTS.map((name) => [name, 0])) };
    this.models = new Map(); // what each has used, as far as it was reported
    this.duration = null;
    this.retries = 0;
    this.lost = 0;
    this.error = null;
    this.context = {};
    this.nodes = new Map();
    this.story = []; // nodes and remarks in the order they began
    this.tokens = 0;
    this.latest = new Map(); // the latest call of each predictor, by kind
    this.changed = new Set(); // nodes to draw anew
  }

  feed(event) {
    const type = event.event_type, at = event.timestamp;
    if (at) this.now = Math.max(this.now || 0, at);
    if (event.context) this.context = event.context;
    if (this.start === null && at) this.start = at;
    if (type === "token") return this.token(event);
    if (STATUS[type]) return this.ended(event);
    if (type === "run.start") { this.program = event.program; this.start = at; return; }
    if (type === "stream.gap") { this.lost += event.count; return this.remark("lost", `${lost(event.count)} here: ${event.reason}`, event); }
    if (type === "status") return this.remark("status", event.message, event);
    const [kind, what] = split(type);
    if (KINDS[kind] && what === "start") return this.started(KINDS[kind], event);
    if (KINDS[kind] && (what === "end" || what === "error")) return this.closed(KINDS[kind], event);
    const told = this.tell[type];
    if (told) return told.call(this, event, this.speaker(event));
    if (!type.includes(".") || event.data !== undefined) this.remark("custom", type, event);
  }

  token(event) {
    const node = this.speaker(event);
    node.attempt(event).field(event.field).put(event.token, event.offset || 0);
    if (event.token) this.tokens += event.count || 1;
    if (event.cached) node.detail.cached = true;
    this.spoke(node, event);
  }

  spoke(node, event) {
    this.changed.add(node);
    if (this.first === null) this.first = event.timestamp;
    if (node.first === null) node.first = event.timestamp;
    const lm = node.lm || (node.times ? node : null);
    if (lm && lm.first === null) lm.first = event.timestamp;
    if (lm) lm.times.spoke(event.timestamp, event.event_type === "token" && event.token ? event.count || 1 : 0, event.event_type === "thinking");
  }

  speaker(event) {
    const id = event.call_id || "run";
    let node = this.nodes.get(id);
    if (!node) {
      node = this.add(id, "module", event.predictor || this.program || "run", event);
      if (event.predictor) node.predictor = event.predictor;
    }
    return node;
  }

  add(id, kind, name, event) {
    const parent = this.nodes.get(event.parent_call_id) || (kind === "trace" ? this.nodes.get(event.call_id) : null) || null;
    const node = new Node(id, kind, name, parent, event.timestamp);
    node.predictor = event.predictor || null;
    node.turn = kind === "module" ? event.turn || 0 : 0; // a tool's is that of the predictor above it
    this.nodes.set(id, node);
    if (parent) parent.children.push(node);
    this.story.push(node);
    this.changed.add(node);
    return node;
  }

  started(kind, event) {
    const id = kind === "trace" ? event.trace_id : event.call_id;
    const node = this.add(id, kind, kind === "lm" ? event.model : called(kind, event), event);
    this.following(node, event);
    if (node.results && kind === "evaluate") node.results.total = event.total;
    if (kind === "lm" && node.parent) { node.parent.lm = node; this.changed.add(node.parent); }
    if (event.kind === "interpreter") {
      node.kind = "code";
      if (event.arguments) node.detail.code = event.arguments.code;
      return;
    }
    for (const key of ["arguments", "inputs"]) if (event[key] !== undefined && event[key] !== null) node.detail[key] = event[key];
  }

  /** What it was given, and the call before that may have been given much of the same. */
  following(node, event) {
    node.messages = event.messages ?? null;
    if (!node.predictor || (node.messages === null && !event.inputs)) return;
    const key = `${node.kind} ${node.predictor}`;
    node.former = this.latest.get(key) || null;
    this.latest.set(key, node);
  }

  closed(kind, event) {
    const node = this.nodes.get(kind === "trace" ? event.trace_id : event.call_id);
    if (!node) return;
    node.end = event.timestamp;
    node.duration = event.duration;
    const stopped = STOPPED.has(event.error_type);
    node.failure = event.error_type && !stopped ? { type: event.error_type, message: event.message || "" } : null;
    node.error = node.failure && [event.error_type, event.message].filter(Boolean).join(": ");
    node.status = stopped ? "left" : node.error ? "failed" : "done";
    if (kind === "evaluate" && event.score != null) node.results.score = event.score;
    for (const key of ["result", "outputs"]) if (event[key] !== undefined && event[key] !== null) node.detail[key] = event[key];
    this.changed.add(node);
    if (kind !== "lm") return;
    node.usage = event;
    node.times.ended(event);
    for (let each = node; each; each = each.parent) each.spent = together(each.spent, event);
    if (event.time_to_first_token != null && node.first === null) node.first = node.start + event.time_to_first_token;
    if (node.parent) this.changed.add(node.parent);
    if (this.status === "running") {
      const totals = this.totals;
      totals.lm_calls++;
      for (const name of COUNTS) totals[name] = totals[name] == null || event[name] == null ? null : totals[name] + event[name];
      if (event.cost != null) totals.cost = (totals.cost || 0) + event.cost;
      for (const used of event.usage || [event]) this.used(used);
    }
  }

  used(usage) {
    const known = this.models.get(usage.model) || {};
    for (const name of COUNTS) if (usage[name] != null) known[name] = (known[name] || 0) + usage[name];
    this.models.set(usage.model, known);
  }

  /** What was reported of all models, where the whole is not known. */
  reported(name) {
    let sum = 0;
    for (const usage of this.models.values()) sum += usage[name] || 0;
    return sum;
  }

  ended(event) {
    this.status = STATUS[event.event_type];
    this.duration = event.duration;
    this.totals = event;
    if (event.usage) this.models = new Map(event.usage.map((usage) => [usage.model, usage]));
    if (event.event_type === "run.error") this.error = [event.error_type, event.message].filter(Boolean).join(": ");
    for (const node of this.nodes.values()) {
      if (node.status === "running") { node.status = "left"; node.end = event.timestamp; this.changed.add(node); }
    }
  }

  remark(kind, text, event) {
    const remark = { kind, text, start: event.timestamp, remark: true, data: event.data, id: `remark-${this.story.length}` };
    this.story.push(remark);
    this.changed.add(remark);
  }
}

Run.prototype.tell = named({
  "field.start"(event, node) { node.attempt(event).field(event.field); this.changed.add(node); },
  "field.partial"(event, node) { node.attempt(event).field(event.field).partial(event); this.spoke(node, event); },
  "field.end"(event, node) {
    const field = node.attempt(event).field(event.field);
    field.done = true;
    field.complete = event.complete !== false;
    this.changed.add(node);
  },
  "field.corrected"(event, node) {
    const field = node.attempt(event).field(event.field);
    field.replace(event.text);
    field.corrected = true;
    if (field.typed && event.value !== undefined && event.value !== null) field.partial({ value: event.value, state: "complete" });
    this.changed.add(node);
  },
  "lm.superseded"(event, node) {
    this.retries++;
    node.retried.push(event.timestamp);
    (node.lm || node).times?.again(event.timestamp);
    for (const attempt of node.attempts.values()) {
      if (attempt.number === (event.attempt || 0)) attempt.superseded = event.reason;
    }
    if (![...node.attempts.values()].some((a) => a.superseded === event.reason)) node.attempt(event).superseded = event.reason;
    this.changed.add(node);
  },
  "evaluate.example"(event, node) { if (node.results) { node.results.example(event); this.changed.add(node); } },
  "compile.candidate"(event, node) { if (node.results) { node.results.candidate(event); this.changed.add(node); } },
  "lm.waiting"(event, node) {
    (node.lm || node).times?.waits(event.timestamp, event.delay);
    if (node.many) return;
    const wait = event.delay ? ` (${event.delay.toFixed(1)} s)` : "";
    this.remark("status", event.model ? `asking ${event.model} instead` : `waiting for a ${event.reason}${wait}`, event);
  },
  "thinking"(event, node) { say(node.attempt(event).thinking, event.text); this.spoke(node, event); },
  "refusal"(event, node) { say(node.attempt(event).refusal, event.text); this.spoke(node, event); },
  "tool_call.delta"(event, node) {
    const calls = node.attempt(event).calls, index = event.index || 0;
    if (!calls.has(index)) calls.set(index, new Field(event.name || "tool call"));
    const call = calls.get(index);
    if (event.name) call.name = event.name;
    say(call, event.arguments || "");
    this.spoke(node, event);
  },
  "citation"(event, node) {
    node.attempt(event).sources.push([event.title, event.url, event.text].filter(Boolean).join(" · "));
    this.changed.add(node);
  },
  "reply.part"(event, node) {
    node.attempt(event).sources.push([event.kind, event.media_type, event.url].filter(Boolean).join(" · "));
    this.changed.add(node);
  },
});

const lost = (count) => (count === 1 ? "1 event was lost" : `${count} events were lost`);

/** What calls have used together, as far as it is known; `unsure` where that is not all. */
function together(spent, event) {
  const used = { unsure: Boolean(spent?.unsure) || event.prompt_tokens == null || event.completion_tokens == null, cost: spent?.cost ?? null };
  for (const name of COUNTS) used[name] = (spent?.[name] || 0) + (event[name] ?? sumOf(event.usage, name));
  if (event.cost != null) used.cost = (used.cost || 0) + event.cost;
  return used;
}

function sumOf(usages, name) {
  return (usages || []).reduce((sum, usage) => sum + (usage[name] || 0), 0);
}

/** A call by its name; an evaluation and an optimizer by what they do with a program. */
function called(kind, event) {
  return kind === "evaluate" ? `Evaluate ${event.name}` : kind === "compile" ? `${event.optimizer} ${event.name}` : event.name;
}

function say(field, text) { field.put(text, field.length); }

function split(type) {
  const dot = type.lastIndexOf(".");
  return dot < 0 ? [type, ""] : [type.slice(0, dot), type.slice(dot + 1)];
}

Object.assign(streamll, { Run, STATUS, codePoints, lost });
})(window.streamll = window.streamll || {});
