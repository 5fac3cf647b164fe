// One call of a run: what it was given, what came of each attempt, what it used and when. Whatever a model says
// becomes text nodes, and elements that its Markdown asks for; nothing else.
(function (streamll) {
"use strict";

const { element, set, seconds, count, usage, money, copyButton, folded, FieldBox, whole } = streamll;

const SHORT = 1500; // characters of inputs that need not be folded
const MESSAGE = 700; // characters of an error that are shown at once

class Card {
  constructor(node) {
    this.node = node;
    this.box = element("section", `card ${node.kind}`);
    this.box.id = `card-${node.id}`;
    this.box.tabIndex = -1;
    const head = element("header"), name = node.predictor && node.predictor !== "self" ? node.predictor : node.name;
    this.turn = element("span", "turn");
    this.facts = element("span", "facts");
    const kind = node.kind !== "module" ? node.kind : node.predictor || node.lm || node.attempts.size ? "predict" : "module";
    head.append(element("span", "chip", kind), element("h3", "", name), this.turn, this.facts);
    this.head = head;
    this.strip = new streamll.Strip();
    this.given = element("div", "given");
    this.tries = element("div", "tries");
    this.guarded = element("p", "guarded");
    this.guarded.hidden = true;
    this.body = element("div", "body");
    this.box.append(head, this.strip.box, this.given, this.tries, this.guarded, this.body);
    this.attempts = new Map();
    this.fields = new Map();
    this.prompts = 0;
  }

  draw() {
    const node = this.node;
    this.box.dataset.status = node.status;
    set(this.turn, node.turn ? `turn ${node.turn + 1}` : "");
    set(this.facts, factsOf(node).join(" · "));
    const calls = callsOf(node);
    this.strip.draw(calls, Math.min(node.start, ...calls.map((lm) => lm.start)), node.end ?? calls.at(-1)?.times.now?.last ?? node.start);
    this.drawGiven(calls.filter((lm) => lm.messages !== null));
    for (const [key, attempt] of node.attempts) this.drawAttempt(key, attempt);
    if (node.attempts.size > 1) this.drawBeside();
    this.guarded.hidden = node.guarded === null;
    if (node.guarded) set(this.guarded, streamll.keptWords(node.guarded));
    this.drawDetail(node.detail);
    if (node.results) this.drawResults(node.results);
    if (node.failure && !node.children.some((child) => child.kind !== "lm" && child.error === node.error)) this.drawError(node.failure);
  }

  /** Its inputs and prompts, as far as events carry them and no card above has shown them. */
  drawGiven(asked) {
    const { inputs } = this.node.detail;
    if (inputs && !this.inputs) {
      const fresh = typeof inputs === "object" ? streamll.newInputs(this.node) : [["inputs", inputs]];
      const size = JSON.stringify(Object.fromEntries(fresh)).length, former = this.node.former?.detail.inputs;
      const fill = (box) => box.append(...fresh.map(([name, value]) => valueRow(name, value, former?.[name])));
      this.inputs = this.node.parent || size > SHORT ? folded("inputs", `Inputs · ${fresh.map(([name]) => name).join(", ")}`, fill) : element("div", "inputs");
      if (this.inputs.localName === "div") fill(this.inputs);
      if (fresh.length) this.given.append(this.inputs);
    }
    for (; this.prompts < asked.length; this.prompts++) this.given.append(streamll.prompt(asked[this.prompts]));
  }

  drawDetail({ code, arguments: given, result, outputs }) {
    if (code !== undefined) this.value("code", code, "code");
    if (given !== undefined && Object.keys(given).length) this.value("arguments", given);
    if (result !== undefined) this.value("result", result);
    if (outputs === undefined || this.node.end === null || this.outputs) return;
    this.outputs = true;
    const rest = streamll.newOutputs(this.node);
    if (rest.length) this.body.append(folded("inputs", `Outputs · ${rest.map(([name]) => name).join(", ")}`, (box) => box.append(...rest.map(([name, value]) => valueRow(name, value)))));
  }
  value(name, value, extra = "") {
    if (this.fields.has(name)) return;
    const row = valueRow(name, value, undefined, extra);
    this.fields.set(name, row);
    this.body.append(row);
  }

  /** A bar while it runs, and a table. */
  drawResults(results) {
    if (!this.results) {
      const bar = element("progress"), row = element("div", "field typed");
      bar.setAttribute("aria-label", "examples done");
      row.append(element("span", "label"), element("div", "text"));
      this.body.append(bar, row);
      this.results = { bar, row, label: row.firstChild, shown: new streamll.Shown(row.lastChild) };
    }
    const { bar, row, label, shown } = this.results;
    bar.hidden = this.node.kind !== "evaluate" || this.node.status !== "running";
    bar.max = results.total || 1;
    bar.value = results.count;
    row.hidden = !results.rows.length;
    label.textContent = this.node.kind === "compile" ? "candidates" : results.count > results.rows.length ? "examples with the lowest scores" : "examples";
    shown.show(results.table, null);
  }

  drawAttempt(key, attempt) {
    let box = this.attempts.get(key);
    if (!box) {
      box = element("div", "attempt");
      this.attempts.set(key, box);
      this.tries.append(box);
    }
    if (attempt.superseded && !box.classList.contains("superseded")) {
      const old = element("details", "attempt superseded");
      old.append(element("summary", "", `Attempt ${attempt.number + 1} counts no more: ${attempt.superseded}`), ...box.childNodes);
      old.open = this.tries.classList.contains("besides");
      box.replaceWith(old);
      box = old;
      this.attempts.set(key, box);
    }
    if (attempt.thinking.length) this.growing(box, `${key} thinking`, "thinking", attempt.thinking, "thinking");
    for (const field of attempt.fields.values()) this.growing(box, `${key} field ${field.name}`, field.name, field, "");
    const drawn = [...attempt.fields.values()].some((field) => field.typed && field.value?.tool_calls); // as a field
    for (const [index, call] of drawn ? [] : attempt.calls) this.growing(box, `${key} call ${index}`, call.name, call, "code");
    if (attempt.refusal.length) this.growing(box, `${key} refusal`, "refusal", attempt.refusal, "error");
    if (attempt.sources.length) {
      let list = box.querySelector(":scope > ul.sources");
      if (!list) box.append(list = element("ul", "sources"));
      while (list.children.length < attempt.sources.length) list.append(element("li", "", attempt.sources[list.children.length]));
    }
  }
  growing(box, key, label, field, extra) {
    let shown = this.fields.get(key);
    if (!shown) {
      shown = new FieldBox(label, extra);
      box.append(shown.row);
      this.fields.set(key, shown);
    }
    shown.draw(field, this.node.status === "running" && !field.done && !(extra && this.node.end !== null));
  }

  /** A button that puts the attempts side by side, those that count no more as well. */
  drawBeside() {
    if (this.beside) return;
    this.beside = element("button", "side-by-side", "Side by side");
    this.beside.type = "button";
    this.beside.setAttribute("aria-pressed", "false");
    this.beside.addEventListener("click", () => {
      const on = this.tries.classList.toggle("besides");
      this.beside.setAttribute("aria-pressed", String(on));
      for (const box of this.tries.querySelectorAll("details.superseded")) box.open = on;
    });
    this.head.insertBefore(this.beside, this.facts);
  }

  drawError({ type, message }) {
    if (this.error) return;
    this.error = element("div", "field error");
    const text = element("div", "text"), tools = element("span", "tools");
    tools.append(copyButton(() => this.node.error, "the error"));
    text.append(element("span", "type", type));
    if (message) text.append(element("span", "", message.slice(0, MESSAGE)));
    if (message.length > MESSAGE) text.append(folded("same", "all of it", (box) => box.append(element("span", "", message.slice(MESSAGE)))));
    this.error.append(element("span", "label", "error"), tools, text);
    this.body.append(this.error);
  }
}

/** The model calls that a card is about: those of a predictor, or the one it is of itself. */
function callsOf(node) {
  return node.times ? [node] : node.children.filter((child) => child.times);
}

/** A value that is whole; of a text, what it shares with the one before is folded. */
function valueRow(name, value, before, extra = "") {
  const field = new FieldBox(name, extra);
  if (typeof value === "string" && typeof before === "string" && streamll.alike(value, before)) {
    field.field = whole(name, value);
    streamll.shared(value, before, field.text);
  } else field.draw(whole(name, value), false);
  return field.row;
}

function factsOf(node) {
  const lm = node.times ? node : node.lm, used = lm?.usage, facts = node.results ? scores(node) : [];
  if (lm && lm !== node) facts.push(lm.name.replace(/^.*\//, ""));
  if (used?.cached) facts.push("from the cache");
  else if (!node.results && streamll.isSpent(node.spent)) facts.push(`${node.spent.unsure ? "≈" : ""}${usage(node.spent)} tokens`);
  if (node.spent?.cost) facts.push(money(node.spent.cost));
  if (node.end !== null) facts.push(seconds(node.duration ?? node.end - node.start));
  if (used?.finish_reason === "length") facts.push("cut by its limit");
  return facts;
}

/** How far an evaluation or optimizer is, and with what score. */
function scores(node) {
  const { count: done, total, failed, score } = node.results, running = node.status === "running";
  const percent = score === null ? "" : `${Number(score.toPrecision(4))}%`;
  if (node.kind === "compile") return done ? [`${count(done)} ${done === 1 ? "candidate" : "candidates"}`, `best ${percent}`] : [];
  return [
    running ? `${count(done)} of ${count(total)}` : `${count(done)} ${done === 1 ? "example" : "examples"}`,
    ...(failed ? [`${count(failed)} failed`] : []),
    ...(percent ? [running ? `${percent} so far` : percent] : []),
  ];
}

streamll.Card = Card;
})(window.streamll = window.streamll || {});
