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

/** What a call writes, and whether that is the first sign of its model's words. */
const WRITTEN = named({
  "field.start": false, "field.partial": true, "field.end": false, "field.corrected": false, thinking: true, refusal: true,
  "tool_call.delta": true, citation: false, "reply.part": false,
});

/** What a guard did with what it found. */
const KEPT = named({ mask: "masked", drop: "dropped", replace: "replaced", stop: "stopped by" });

class Node {
  constructor(id, kind, name, parent, start) {
    Object.assign(this, { id, kind, name, parent, start, end: null, status: "running" });
    this.depth = parent ? parent.depth + 1 : 0;
    this.children = [];
    this.attempts = new streamll.Attempts();
    this.first = null; // when its first token came
    this.predictor = null;
    this.turn = 0;
    this.error = null;
    this.failure = null; // the same as its type and message
    this.lm = null;
    this.detail = {};
    this.guarded = null; // how often guards have found something in it, by what they did and their names
    this.retried = []; // when an attempt of it was given up
    this.times = kind === "lm" ? new streamll.Times(start) : null;
    this.spent = null; // tokens and cost of the model calls of it and below it that are over
    this.former = null; // the call before of the same predictor
    this.results = kind === "evaluate" || kind === "compile" ? new streamll.Results() : null;
    this.many = Boolean(parent && (parent.many || parent.results)); // one of very many calls
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
    this.kept = 0; // how often guards have kept text back
    this.questions = new Map(); // what it has asked people, by its id
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
    if (type === "question") return this.asks(event);
    if (type === "answer") return this.answers(event);
    if (type === "guarded") return this.keepsBack(event);
    if (type === "status") return this.remark("status", event.message, event);
    const [kind, what] = split(type);
    if (KINDS[kind] && what === "start") return this.started(KINDS[kind], event);
    if (KINDS[kind] && (what === "end" || what === "error")) return this.closed(KINDS[kind], event);
    if (type in WRITTEN) return this.written(event, WRITTEN[type]);
    const told = this.tell[type];
    if (told) return told.call(this, event, this.speaker(event));
    if (!type.includes(".") || event.data !== undefined) this.remark("custom", type, event);
  }

  token(event) {
    const node = this.speaker(event);
    node.attempts.take(event);
    if (event.token) this.tokens += event.count || 1;
    if (event.cached) node.detail.cached = true;
    this.spoke(node, event);
  }

  written(event, spoken) {
    const node = this.speaker(event);
    node.attempts.take(event);
    if (spoken) this.spoke(node, event);
    else this.changed.add(node);
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

  /** Of a call that is known it stands in its card; else it is a remark. */
  keepsBack(event) {
    this.kept++;
    let node = this.nodes.get(event.call_id);
    if (node?.kind === "lm" && node.parent) node = node.parent;
    if (!node) return this.remark("guarded", keptWords(counted(new Map(), event)), event);
    node.guarded = counted(node.guarded || new Map(), event);
    this.changed.add(node);
  }

  asks(question) {
    const asked = { kind: "question", question, answer: null, start: question.timestamp, remark: true, id: `question-${question.question_id}` };
    this.questions.set(question.question_id, asked);
    this.story.push(asked);
    this.changed.add(asked);
  }

  answers(event) {
    const asked = this.questions.get(event.question_id);
    if (!asked) return;
    asked.answer = event;
    this.changed.add(asked);
  }

  /** How many wait for an answer. */
  get waits() {
    let open = 0;
    if (this.status === "running") for (const { answer } of this.questions.values()) if (!answer) open++;
    return open;
  }

  remark(kind, text, event) {
    const remark = { kind, text, start: event.timestamp, remark: true, data: event.data, id: `remark-${this.story.length}` };
    this.story.push(remark);
    this.changed.add(remark);
  }
}

Run.prototype.tell = named({
  "lm.superseded"(event, node) {
    this.retries++;
    node.retried.push(event.timestamp);
    (node.lm || node).times?.again(event.timestamp);
    node.attempts.take(event);
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
});

function counted(found, { outcome = "mask", name }) {
  const names = found.get(outcome) || new Map();
  return found.set(outcome, names.set(name, (names.get(name) || 0) + 1));
}

/** What guards have done, as words: `masked: emails ×2, names · dropped: keys`. */
function keptWords(found) {
  const times = ([name, count]) => (count > 1 ? `${name} ×${count}` : name);
  return [...found].map(([outcome, names]) => `${KEPT[outcome] || outcome}: ${[...names].map(times).join(", ")}`).join(" · ");
}

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

function split(type) {
  const dot = type.lastIndexOf(".");
  return dot < 0 ? [type, ""] : [type.slice(0, dot), type.slice(dot + 1)];
}

Object.assign(streamll, { Run, STATUS, lost, keptWords });
})(window.streamll = window.streamll || {});
