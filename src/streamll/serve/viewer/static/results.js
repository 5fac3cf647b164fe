// What an evaluation or optimizer has come to: events in, a table out.
(function (streamll) {
"use strict";
const { seconds } = streamll;

const ROWS = 10; // the examples with the lowest scores, the latest candidates and the best one

/** What an evaluation or optimizer has come to. */
class Results {
  constructor() {
    this.count = 0;
    this.total = null;
    this.failed = 0;
    this.score = null; // so far: the mean, or the best candidate's
    this.rows = [];
  }
  example(event) {
    this.count = event.done;
    this.total = event.total;
    this.score = event.mean ?? null;
    if (event.error_type) this.failed++;
    const row = { example: event.index + 1, score: event.score ?? "", time: seconds(event.duration || 0) };
    if (event.inputs) row.inputs = JSON.stringify(event.inputs);
    if (event.error_type) row.error = [event.error_type, event.message].filter(Boolean).join(": ");
    this.rows.push(row);
    const rank = (each) => (each.score === "" ? -Infinity : each.score); // failed ones first
    this.rows.sort((a, b) => (rank(a) === rank(b) ? a.example - b.example : rank(a) < rank(b) ? -1 : 1));
    this.rows.length = Math.min(this.rows.length, ROWS);
  }
  candidate(event) {
    this.count = event.index + 1;
    this.score = event.best;
    this.rows.push({ candidate: event.index + 1, score: event.score, examples: event.total, time: seconds(event.duration || 0) });
    for (const row of this.rows) row.best = row.candidate === event.best_index + 1 ? "best" : "";
    if (this.rows.length > ROWS) this.rows.splice(this.rows[0].best ? 1 : 0, 1);
  }
  /** The rows with the same names in all, for a table. */
  get table() {
    const names = [...new Set(this.rows.flatMap((row) => Object.keys(row)))];
    return this.rows.map((row) => Object.fromEntries(names.map((name) => [name, row[name] ?? ""])));
  }
}

streamll.Results = Results;
})(window.streamll = window.streamll || {});
