// The calls of a run as bars over time: pale until the first token, full while it speaks.
(function (streamll) {
"use strict";
const { element, set, seconds, usage, isSpent, money } = streamll;

const MANY = 5000; // calls, of which the sum is made once it is over
const FEW = 100; // rows, beside which another is drawn at once
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];

/** A number of tokens in four characters. */
function short(tokens) {
  return tokens < 1000 ? String(tokens) : tokens < 9950 ? `${(tokens / 1000).toFixed(1)}k` : `${Math.round(tokens / 1000)}k`;
}

class Row {
  constructor(node, choose) {
    this.node = node;
    this.box = element("li", node.kind);
    const button = element("button", "row");
    button.type = "button";
    const short = node.parent && node.name.startsWith(`${node.parent.name}.`) ? node.name.slice(node.parent.name.length + 1) : node.name;
    this.name = element("span", "name");
    this.name.style.setProperty("--depth", Math.min(node.depth, 6));
    this.name.append(element("span", "what", node.kind === "lm" ? node.name.replace(/^.*\//, "") : short));
    if (node.turn) this.name.append(element("span", "turn", `turn ${node.turn + 1}`));
    this.track = element("span", "track");
    this.numbers = element("span", "numbers");
    this.time = element("span", "time");
    this.numbers.append(element("span", "tokens"), element("span", "cost"), this.time);
    this.bars = [];
    button.append(this.name, this.track, this.numbers);
    button.addEventListener("click", () => choose(node));
    this.box.append(button);
  }
  draw(origin, span, now) {
    const node = this.node, pieces = [];
    pieces.push(["whole", node.start, node.end ?? now]);
    for (const lm of node.times ? [node] : node.children.filter((child) => child.times)) pieces.push(...lm.times.pieces(lm.end ?? now));
    for (const at of node.retried) pieces.push(["retry", at, at]);
    this.box.dataset.status = node.status;
    while (this.bars.length < pieces.length) {
      this.bars.push(element("i"));
      this.track.append(this.bars.at(-1));
    }
    pieces.forEach(([kind, from, to], index) => {
      const bar = this.bars[index];
      bar.className = kind;
      bar.style.left = `${Math.max(0, ((from - origin) / span) * 100)}%`;
      bar.style.width = `${Math.max(0, ((to - from) / span) * 100)}%`;
    });
    const took = seconds(node.duration ?? (node.end ?? now) - node.start);
    const { spent } = node;
    set(this.numbers.children[0], isSpent(spent) ? `${spent.unsure ? "≈" : ""}${short(spent.prompt_tokens)}→${short(spent.completion_tokens)}` : "");
    set(this.numbers.children[1], spent && spent.cost != null ? money(spent.cost) : "");
    set(this.time, took);
    const lm = node.times ? node : node.lm;
    const first = lm && lm.first !== null ? `, first token after ${seconds(lm.first - lm.start)}` : "";
    const label = `${node.name}${node.turn ? `, turn ${node.turn + 1}` : ""}: ${took}${first}${isSpent(spent) ? `, ${usage(spent)} tokens` : ""}${node.retried.length ? `, ${node.retried.length} superseded` : ""}${node.error ? `, ${node.error}` : ""}`;
    if (this.box.firstChild.title !== label) this.box.firstChild.title = label;
  }
}

class Timeline {
  constructor(list, axis, choose) {
    Object.assign(this, { list, axis, choose });
    const shares = element("div", "shares");
    axis.before(shares);
    this.shares = new streamll.Shares(shares);
    this.reset();
  }
  reset() {
    this.rows = new Map();
    this.told = 0;
    this.list.replaceChildren();
    this.axis.replaceChildren();
  }
  /** Whether a row is missing that moves what is below, so that it must come together with that. */
  lacks(run) { return this.told < run.story.length && this.rows.size < FEW; }

  /** `until`: the end of the whole run where it is known, so that a replay does not rescale. */
  draw(run, now, until) {
    if (run.start === null) return;
    for (; this.told < run.story.length; this.told++) {
      const node = run.story[this.told];
      if (node.remark || (node.kind === "lm" && node.parent) || (node.many && !node.results)) continue;
      const row = new Row(node, this.choose);
      this.rows.set(node.id, row);
      const before = this.place(node);
      if (before) before.box.after(row.box); else this.list.append(row.box);
    }
    const span = Math.max(0.001, (until ?? now) - run.start);
    this.drawAxis(span);
    for (const row of this.rows.values()) row.draw(run.start, span, now);
    this.list.parentNode.classList.toggle("priced", [...run.nodes.values()].some((node) => node.spent?.cost != null));
    if (run.story.length < MANY || run.status !== "running") this.shares.draw(run, now);
  }
  /** The row behind which a node belongs: the last one under the same parent. */
  place(node) {
    if (!node.parent) return null;
    let last = node.parent;
    const siblings = node.parent.children.filter((child) => child !== node && this.rows.has(child.id));
    if (siblings.length) last = siblings.at(-1);
    for (let below = last; below; ) {
      last = below;
      below = below.children.filter((child) => child !== node && this.rows.has(child.id)).at(-1);
    }
    return this.rows.get(last.id) || null;
  }
  drawAxis(span) {
    const step = STEPS.find((each) => span / each <= 8) || Math.ceil(span / 8);
    const marks = Math.floor(span / step) + 1;
    while (this.axis.children.length > marks) this.axis.lastChild.remove();
    while (this.axis.children.length < marks) this.axis.append(element("span"));
    for (let i = 0; i < marks; i++) {
      const mark = this.axis.children[i], text = i === 0 ? "0" : seconds(i * step).replace(/\.?0+ s$/, " s");
      mark.style.left = `${((i * step) / span) * 100}%`;
      mark.hidden = (i * step) / span > 0.97;
      if (mark.textContent !== text) mark.textContent = text;
    }
  }
}

streamll.Timeline = Timeline;
})(window.streamll = window.streamll || {});
