// The output of a run as cards. Whatever a model says becomes a Text node and nothing else.
(function (streamll) {
"use strict";

const { element, seconds, count, usage, Growing } = streamll;

class Card {
  constructor(node) {
    this.node = node;
    this.box = element("section", `card ${node.kind}`);
    this.box.id = `card-${node.id}`;
    this.box.tabIndex = -1;
    const head = element("header");
    this.kind = element("span", "chip", node.kind !== "module" ? node.kind : node.predictor || node.lm || node.attempts.size ? "predict" : "module");
    this.name = element("h3", "", node.predictor && node.predictor !== "self" ? node.predictor : node.name);
    this.turn = element("span", "turn");
    this.facts = element("span", "facts");
    head.append(this.kind, this.name, this.turn, this.facts);
    this.body = element("div", "body");
    this.box.append(head, this.body);
    this.fields = new Map();
    this.tries = new Map();
  }

  draw() {
    const node = this.node, lm = node.lm;
    this.box.dataset.status = node.status;
    this.turn.textContent = node.turn ? `turn ${node.turn + 1}` : "";
    const facts = node.results ? scores(node) : [];
    if (lm) facts.push(lm.name.replace(/^.*\//, ""));
    const begun = lm || node;
    if (begun.first !== null && lm && !(lm.usage && lm.usage.cached)) facts.push(`first token ${seconds(begun.first - begun.start)}`);
    if (node.end !== null) facts.push(seconds(node.duration ?? node.end - node.start));
    if (lm && lm.usage && lm.status === "done") facts.push(lm.usage.cached ? "from the cache" : `${usage(lm.usage)} tokens`);
    if (lm && lm.usage && lm.usage.finish_reason === "length") facts.push("cut by its limit");
    this.facts.textContent = facts.join(" · ");
    for (const [key, attempt] of node.attempts) this.drawAttempt(key, attempt);
    for (const [key, value] of Object.entries(node.detail)) {
      if (key === "cached") continue;
      this.line(`detail ${key}`, key, typeof value === "string" ? value : JSON.stringify(value, null, 2), true);
    }
    if (node.results) this.drawResults(node.results);
    if (node.error) this.line("error", "error", node.error, false, "error");
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
    let box = this.tries.get(key);
    if (!box) {
      box = element("div", "attempt");
      this.tries.set(key, box);
      this.body.append(box);
    }
    if (attempt.superseded && !box.classList.contains("superseded")) {
      const folded = element("details", "attempt superseded");
      folded.append(element("summary", "", `Attempt ${attempt.number + 1} counts no more: ${attempt.superseded}`), ...box.childNodes);
      box.replaceWith(folded);
      box = folded;
      this.tries.set(key, box);
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
      const row = element("div", `field ${extra}`);
      row.dataset.field = label;
      const name = element("span", "label", label);
      const text = element("div", "text");
      row.append(name, text);
      box.append(row);
      text.addEventListener("scroll", () => { shown.follows = text.scrollHeight - text.scrollTop - text.clientHeight < 40; }, { passive: true });
      shown = { row, name, text, follows: true, growing: new Growing(text), value: null, version: -1, raw: false };
      this.fields.set(key, shown);
    }
    const open = this.node.status === "running" && !field.done && !(extra && this.node.end !== null);
    shown.row.classList.toggle("open", open);
    shown.row.classList.toggle("corrected", field.corrected);
    shown.row.classList.toggle("cut", field.done && !field.complete);
    if (field.typed) this.typed(shown, field, open);
    else shown.growing.show(field);
    if (open && shown.follows) shown.text.scrollTop = shown.text.scrollHeight;
  }

  /** A value instead of its raw text; a button shows it as JSON. */
  typed(shown, field, open) {
    if (!shown.value) {
      shown.row.classList.add("typed");
      shown.text.replaceChildren();
      shown.value = new streamll.Shown(shown.text);
      shown.json = element("button", "json", "JSON");
      shown.json.type = "button";
      shown.json.addEventListener("click", () => {
        shown.raw = !shown.raw;
        shown.version = -1;
        shown.value = new streamll.Shown(shown.text);
        shown.text.replaceChildren();
        this.typed(shown, field, false);
      });
      shown.row.insertBefore(shown.json, shown.text);
    }
    const structured = field.value !== null && typeof field.value === "object";
    shown.json.hidden = !structured;
    shown.json.setAttribute("aria-pressed", String(shown.raw));
    shown.json.setAttribute("aria-label", `${field.name} as JSON`);
    shown.row.classList.toggle("single", !structured);
    shown.row.classList.toggle("raw", structured && shown.raw);
    const version = `${field.version} ${open}`;
    if (shown.version === version) return;
    shown.version = version;
    if (shown.raw) shown.value.show(JSON.stringify(field.value, null, 2), open ? [] : null);
    else shown.value.show(field.value ?? "", open ? field.growing : null);
  }

  line(key, label, text, code, extra = "") {
    let shown = this.fields.get(key);
    if (!shown) {
      const row = element("div", `field ${code ? "code" : ""} ${extra}`);
      row.append(element("span", "label", label), element("div", "text"));
      this.body.append(row);
      this.fields.set(key, shown = { row });
    }
    if (shown.row.lastChild.textContent !== text) shown.row.lastChild.textContent = text;
  }
}

class Output {
  constructor(box) {
    this.box = box;
    this.reset();
  }
  reset() {
    this.cards = new Map();
    this.box.replaceChildren();
  }
  /** Draw what has changed; returns the number of cards drawn. */
  draw(run) {
    const changed = [...run.changed];
    run.changed.clear();
    for (const thing of changed) {
      if (thing.remark) this.remark(thing);
      else if (worthACard(thing)) this.card(thing).draw();
    }
    return changed.length;
  }
  card(node) {
    let card = this.cards.get(node.id);
    if (!card) {
      card = new Card(node);
      this.cards.set(node.id, card);
      const after = [...this.box.children].reverse().find((other) => Number(other.dataset.start) <= node.start);
      card.box.dataset.start = node.start;
      if (after) after.after(card.box); else this.box.prepend(card.box);
    }
    return card;
  }
  remark(thing) {
    if (this.cards.has(thing.id)) return;
    const line = element("p", `remark ${thing.kind}`, thing.text);
    line.dataset.start = thing.start;
    if (thing.data !== undefined) line.append(element("code", "", JSON.stringify(thing.data)));
    this.cards.set(thing.id, line);
    this.box.append(line);
  }
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

function worthACard(node) {
  if (node.many) return !node.results && node.attempts.size > 0; // where its text was asked for
  if (node.results) return true;
  if (node.kind === "trace") return false;
  if (node.kind === "lm") return !node.parent && (node.attempts.size > 0 || node.error);
  if (node.kind === "module") return node.attempts.size > 0 || node.lm !== null || (node.error && !node.children.some((c) => c.error)) || Object.keys(node.detail).length > 0;
  return true;
}

streamll.Output = Output;
})(window.streamll = window.streamll || {});
