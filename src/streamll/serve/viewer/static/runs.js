// The list of runs at the side.
(function (streamll) {
"use strict";
const { element, set, seconds } = streamll;
const $ = (id) => document.getElementById(id);

class RunList {
  /** `choose(id)` is called for the run that somebody wants to see. */
  constructor(choose) {
    this.choose = choose;
    this.runs = [];
    this.items = new Map();
    this.asked = new Map(); // what was asked of the runs that this page started
    this.chosen = null;
    this.over = () => null; // the state of the chosen run, where the page knows that it has ended
  }

  draw(runs) {
    this.runs = runs;
    $("no-runs").hidden = runs.length > 0;
    const known = new Set();
    runs.forEach((run, index) => {
      known.add(run.run_id);
      const item = this.item(run.run_id);
      this.tell(item, run);
      if ($("runs").children[index] !== item) $("runs").insertBefore(item, $("runs").children[index] || null);
    });
    for (const [id, item] of this.items) if (!known.has(id)) { item.remove(); this.items.delete(id); }
    this.mark(this.chosen);
  }

  item(id) {
    if (!this.items.has(id)) {
      const button = element("button"), item = element("li");
      button.type = "button";
      button.append(element("span", "dot"), element("span", "program"), element("span", "asked"), element("span", "when"), element("span", "took"));
      button.addEventListener("click", () => { this.choose(id); });
      item.append(button);
      this.items.set(id, item);
    }
    return this.items.get(id);
  }

  tell(item, run) {
    const [dot, program, question, when, took] = item.firstChild.children;
    const status = (run.run_id === this.chosen && this.over()) || run.status;
    dot.dataset.status = status;
    dot.title = streamll.STATUS_WORDS[status] || status;
    dot.textContent = dot.title;
    set(program, run.program);
    set(question, (this.asked.get(run.run_id) || "").slice(0, 200));
    set(when, ago(run.started_at));
    set(took, run.ended_at ? seconds(run.ended_at - run.started_at) : "…");
  }

  /** The run's state in the list; undefined where it is not listed. */
  status(id) { return (this.runs.find((run) => run.run_id === id) || {}).status; }

  mark(id) {
    this.chosen = id;
    for (const [each, item] of this.items) {
      if (each === id) item.firstChild.setAttribute("aria-current", "true");
      else item.firstChild.removeAttribute("aria-current");
    }
  }

  focus(id) {
    const item = id === undefined ? this.items.values().next().value : this.items.get(id);
    if (item) item.firstChild.focus();
  }

  /** The run so many places further down, chosen. */
  step(by) {
    if (!this.runs.length) return;
    const at = this.runs.findIndex((run) => run.run_id === this.chosen);
    const next = this.runs[Math.min(Math.max(0, at + by), this.runs.length - 1)];
    this.choose(next.run_id);
    this.items.get(next.run_id).scrollIntoView({ block: "nearest" });
  }
}

function ago(timestamp) {
  const date = new Date(timestamp * 1000), today = new Date().toDateString() === date.toDateString();
  return today ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

streamll.RunList = RunList;
})(window.streamll = window.streamll || {});
