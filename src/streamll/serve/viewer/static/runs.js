// The list of runs at the side: each by what it was asked, those of one conversation together.
(function (streamll) {
"use strict";
const { element, set, seconds } = streamll;
const $ = (id) => document.getElementById(id);

class RunList {
  /** `choose(id)` is called for the run that somebody wants to see. */
  constructor(choose) {
    this.choose = choose;
    this.runs = []; // as they are listed
    this.items = new Map();
    this.heads = new Map(); // of conversations
    this.started = new Map(); // the program and the inputs of the runs that this page started
    this.chosen = null;
    this.over = () => null; // the state of the chosen run, where the page knows that it has ended
  }

  /** `isPart`: only some of the runs were asked for. */
  draw(runs, isPart) {
    const groups = grouped(runs), items = [];
    this.runs = groups.flatMap((group) => group.runs);
    $("no-runs").hidden = runs.length > 0 || isPart;
    for (const { conversation, runs: together } of groups) {
      if (conversation) items.push(this.head(conversation, together.length));
      for (const run of together) {
        const item = this.item(run.run_id);
        this.tell(item, run);
        item.className = conversation ? "together" : "";
        items.push(item);
      }
    }
    items.forEach((item, index) => {
      if ($("runs").children[index] !== item) $("runs").insertBefore(item, $("runs").children[index] || null);
    });
    const listed = new Set(items);
    for (const known of [this.items, this.heads]) {
      for (const [id, item] of known) if (!listed.has(item)) { item.remove(); known.delete(id); }
    }
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

  head(conversation, count) {
    if (!this.heads.has(conversation)) {
      const item = element("li", "conversation");
      item.append(element("span", "id", conversation), element("span", "count"));
      item.title = `Conversation ${conversation}`;
      this.heads.set(conversation, item);
    }
    const item = this.heads.get(conversation);
    set(item.lastChild, `${count} runs`);
    return item;
  }

  tell(item, run) {
    const [dot, program, question, when, took] = item.firstChild.children;
    const status = (run.run_id === this.chosen && this.over()) || (run.open_questions ? "asking" : run.status);
    const title = run.title || streamll.titleOf(this.started.get(run.run_id)?.inputs);
    dot.dataset.status = status;
    dot.title = streamll.STATUS_WORDS[status] || status;
    dot.textContent = dot.title;
    item.firstChild.classList.toggle("titled", Boolean(title));
    set(program, streamll.programOf(run));
    set(question, title);
    question.title = title; // all of it
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
    const item = id === undefined ? this.items.get(this.runs[0]?.run_id) : this.items.get(id);
    if (item) item.firstChild.focus();
  }

  /** Choose the run so many places further down, from `id` on. */
  step(by, id = this.chosen) {
    if (!this.runs.length) return;
    const at = this.runs.findIndex((run) => run.run_id === id);
    const next = this.runs[Math.min(Math.max(0, at + by), this.runs.length - 1)];
    this.choose(next.run_id);
    this.items.get(next.run_id).scrollIntoView({ block: "nearest" });
  }
}

/** The runs in their order; those of one conversation stand together, where its latest one is. */
function grouped(runs) {
  const conversations = new Map(), groups = [];
  for (const run of runs) {
    const context = run.context || {}, conversation = String(context.conversation_id ?? context.thread_id ?? "");
    const known = conversation && conversations.get(conversation);
    if (known) { known.runs.push(run); continue; }
    const group = { conversation, runs: [run] };
    groups.push(group);
    if (conversation) conversations.set(conversation, group);
  }
  for (const group of groups) if (group.runs.length < 2) group.conversation = "";
  return groups;
}

function ago(timestamp) {
  const date = new Date(timestamp * 1000), today = new Date().toDateString() === date.toDateString();
  return today ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

Object.assign(streamll, { RunList, ago });
})(window.streamll = window.streamll || {});
