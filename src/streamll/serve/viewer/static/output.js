// The output of a run: a card for each call that has something to show, in the order in which they began.
(function (streamll) {
"use strict";

const { element, Card, Markdown } = streamll;

class Output {
  /** `asking(thing)`: how a question that the run asks is answered, `{answer, barred}`. */
  constructor(box, asking) {
    this.box = box;
    this.asking = asking;
    this.reset();
    Markdown.onChange(() => { for (const card of this.cards.values()) card.draw?.(); });
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
      if (thing.question) this.question(thing);
      else if (thing.remark) this.remark(thing);
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
  question(thing) {
    const known = this.cards.get(thing.id);
    if (known) { known.draw(); return; }
    const { answer, barred } = this.asking(thing), made = new streamll.Question(thing, answer, barred);
    made.box.dataset.start = thing.start;
    this.cards.set(thing.id, made);
    this.box.append(made.box);
  }
  tick() { for (const card of this.cards.values()) card.tick?.(); }
  remark(thing) {
    if (this.cards.has(thing.id)) return;
    const line = element("p", `remark ${thing.kind}`, thing.text);
    line.dataset.start = thing.start;
    if (thing.data !== undefined) line.append(element("code", "", JSON.stringify(thing.data)));
    this.cards.set(thing.id, line);
    this.box.append(line);
  }
}

function worthACard(node) {
  if (node.many) return !node.results && node.attempts.size > 0; // where its text was asked for
  if (node.results) return true;
  if (node.kind === "trace") return false;
  if (node.kind === "lm") return !node.parent && (node.attempts.size > 0 || node.error || node.messages);
  if (node.kind === "module") return node.attempts.size > 0 || node.lm !== null || node.guarded !== null || (node.error && !node.children.some((c) => c.error)) || Object.keys(node.detail).length > 0;
  return true;
}

streamll.Output = Output;
})(window.streamll = window.streamll || {});
