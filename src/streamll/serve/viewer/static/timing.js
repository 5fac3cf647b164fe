// When the calls of a run waited and when they spoke. Times in, spans out; knows neither the page nor the network.
(function (streamll) {
"use strict";

const PAUSE = 0.3; // seconds of silence between two tokens from which on it is a pause
const BUCKETS = 120; // of a rhythm, at most

/** How many tokens came when: counts for equal parts of the time, whose length doubles as it goes on. */
class Rhythm {
  constructor(start) {
    Object.assign(this, { start, width: 0.05, counts: new Array(BUCKETS).fill(0), most: 0 });
  }
  add(at, count) {
    let place = Math.max(0, Math.floor((at - this.start) / this.width));
    for (; place >= BUCKETS; place >>= 1) {
      this.counts = this.counts.map((_, index) => (this.counts[2 * index] || 0) + (this.counts[2 * index + 1] || 0));
      this.width *= 2;
    }
    this.counts[place] += count;
    this.most = Math.max(...this.counts);
  }
}

/** The times of one model call: a span for each of its attempts. */
class Times {
  constructor(start) {
    this.spans = [];
    this.rhythm = new Rhythm(start);
    this.tokens = 0;
    this.over = false; // what the program makes of the reply comes after its end
    this.again(start);
  }
  get now() { return this.spans.at(-1); }
  again(at) {
    if (this.over) return;
    if (this.now) this.now.to = at;
    this.spans.push({ from: at, left: null, first: null, last: null, thought: false, pauses: [], to: null });
  }
  /** The request waits, for a while if that is known, before it leaves. */
  waits(at, delay) { if (!this.over && this.now.first === null) this.now.left = Math.max(this.now.left || 0, at + (delay || 0)); }
  spoke(at, count, thought = false) {
    if (this.over) return;
    const span = this.now;
    if (span.first === null) { span.first = at; span.thought = thought; }
    else if (at - span.last > PAUSE) span.pauses.push([span.last, at]);
    span.last = at;
    this.tokens += count;
    if (count) this.rhythm.add(at, count);
  }
  /** What `lm.end` says of the last attempt. */
  ended(event) {
    this.over = true;
    const span = this.now, after = span.thought ? event.time_to_first_chunk : event.time_to_first_token;
    span.to = event.timestamp;
    if (event.cached) { this.spans = []; return; }
    if (after == null) return;
    // Its first text may have been of a field that is not streamed.
    if (span.left === null || span.first === null) span.first = Math.min(span.first ?? span.to, (span.left ?? span.from) + after);
    else span.left = Math.min(Math.max(span.left, span.first - after), span.first);
  }
  /** `[what, from, to]` in order: "queue" before a request, "wait" for its first token, "speak", "pause". */
  pieces(now) {
    const found = [];
    const add = (what, from, to) => { if (to > from) found.push([what, from, to]); };
    for (const span of this.spans) {
      const to = span.to ?? now, first = Math.min(span.first ?? to, to), left = Math.min(span.left ?? span.from, first);
      add("queue", span.from, left);
      add("wait", left, first);
      const silent = span !== this.now && span.last !== null ? Math.max(first, Math.min(span.last, to)) : to; // it failed, and the next is not begun
      let at = first;
      for (const [from, until] of span.pauses) { add("speak", at, from); add("pause", from, until); at = until; }
      if (span.first !== null) add("speak", at, silent);
      add("queue", silent, to);
    }
    return found;
  }
  get waited() { return this.now?.first == null ? null : this.now.first - (this.now.left ?? this.now.from); }
  get longestPause() { return Math.max(0, ...this.spans.flatMap((span) => span.pauses.map(([from, to]) => to - from))); }
}

/** What went on at each moment, the first of these that did; "own" is the program itself. */
const WHAT = ["speak", "wait", "pause", "queue", "asked", "tool", "code", "own"];

/** How the time from a run's start until `now` was spent, in seconds by what. Calls side by side count once. */
function shares(run, now) {
  const changes = [];
  const add = (what, from, to) => { if (to > from) changes.push([from, what, 1], [to, what, -1]); };
  for (const node of run.story) {
    if (node.times) for (const [what, from, to] of node.times.pieces(node.end ?? now)) add(what, from, Math.min(to, now));
    if (node.kind === "tool" || node.kind === "code") add(node.kind, node.start, Math.min(node.end ?? now, now));
  }
  for (const { start, answer } of run.questions.values()) add("asked", start, Math.min(answer?.timestamp ?? now, now));
  changes.sort((one, other) => one[0] - other[0]);
  const spent = Object.fromEntries(WHAT.map((what) => [what, 0])), going = { ...spent, own: 1 };
  let at = run.start;
  for (const [when, what, by] of [...changes, [now, "own", 0]]) {
    spent[WHAT.find((each) => going[each] > 0)] += Math.max(0, when - at);
    at = Math.max(at, when);
    going[what] += by;
  }
  return spent;
}

Object.assign(streamll, { Times, shares, WHAT });
})(window.streamll = window.streamll || {});
