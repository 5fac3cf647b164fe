// Two runs side by side: their numbers, how long each step took, and what each field says.
(function (streamll) {
"use strict";
const { element, seconds } = streamll;
const $ = (id) => document.getElementById(id);

const DRAWN = 500; // milliseconds between two drawings
const STEPS = 200; // of so many the times are compared, and the fields

class Compare {
  /** `open(id)`: somebody wants to see this run alone. */
  constructor(source, open) {
    this.source = source;
    this.open = open;
    this.sides = [];
    this.timer = 0;
  }

  get ids() { return this.sides.map((side) => side.id); }

  show(ids) {
    this.leave();
    this.sides = ids.map((id) => {
      const player = new streamll.Player(id, () => this.schedule());
      return { id, player, close: this.source.open(id, (event) => player.add(event), () => player.last) };
    });
    $("compare").hidden = false;
    this.draw();
  }

  leave() {
    clearTimeout(this.timer);
    this.timer = 0;
    for (const side of this.sides) side.close();
    this.sides = [];
    $("compare").hidden = true;
  }

  schedule() {
    if (!this.timer && this.sides.length) this.timer = setTimeout(() => { this.timer = 0; this.draw(); }, DRAWN);
  }

  draw() {
    if (this.sides.length < 2) return;
    const runs = this.sides.map((side) => side.player.run);
    $("compared-heads").replaceChildren(element("th"), ...this.sides.map((side) => this.head(side)));
    $("compared-facts").replaceChildren(...rowsOf(runs.map(facts), true));
    const steps = runs.map(stepsOf);
    $("compared-steps").replaceChildren(...rowsOf(steps.map(timesOf), false));
    $("compared-fields").replaceChildren(...fieldsBeside(steps.map(fieldsOf)));
  }

  head({ id, player }) {
    const cell = element("th"), button = element("button", "quiet", player.run.program || "run");
    const begun = player.events.slice(0, 20).find((event) => event.event_type === "run.start");
    button.type = "button";
    button.title = "Show this run alone";
    button.addEventListener("click", () => this.open(id));
    const status = player.run.status, pill = element("span", "pill", streamll.STATUS_WORDS[status] || status);
    pill.dataset.status = status;
    cell.scope = "col";
    cell.append(button, pill, element("span", "asked", streamll.titleOf(begun && begun.inputs)), element("span", "when", player.start ? streamll.ago(player.start) : ""));
    return cell;
  }
}

// --- numbers and times -----------------------------------------------------------------------------

/** Pairs of a name and `[words, number]`; a number is compared. */
function facts(run) {
  const numbers = {
    Time: run.duration, "First token": run.first === null ? null : run.first - run.start,
    "Tokens in": run.totals.prompt_tokens, "Tokens out": run.totals.completion_tokens, "Model calls": run.totals.lm_calls, Cost: run.totals.cost,
  };
  return new Map(streamll.factsOf(run, run.now).map(([name, words]) => [name, [words, numbers[name]]]));
}

/** The steps of a run by a name that the same step of another run has as well. */
function stepsOf(run) {
  const steps = new Map(), met = new Map();
  for (const node of run.story) {
    if (node.remark || node.kind === "lm" || node.many || steps.size >= STEPS) continue;
    const name = `${node.predictor || node.name}${node.turn ? ` · turn ${node.turn + 1}` : ""}`, before = met.get(name) || 0;
    met.set(name, before + 1);
    steps.set(before ? `${name} (${before + 1})` : name, node);
  }
  return steps;
}

function timesOf(steps) {
  return new Map([...steps].map(([name, node]) => {
    const took = node.duration ?? (node.end === null ? null : node.end - node.start);
    return [name, [seconds(took), took]];
  }));
}

function rowsOf([left, right], areTotals) {
  return [...new Set([...left.keys(), ...right.keys()])].map((name) => {
    const row = element("tr"), head = element("th", "", name), [a, b] = [left.get(name), right.get(name)];
    head.scope = "row";
    const second = element("td", "", b ? b[0] : "–");
    if (a && b && a[1] > 0 && b[1] != null && a[1] !== b[1]) second.append(element("span", "change", change(a[1], b[1])));
    if (areTotals && a && b && a[0] !== b[0]) row.className = "differs";
    row.append(head, element("td", "", a ? a[0] : "–"), second);
    return row;
  });
}

function change(from, to) {
  if (Math.max(from, to) < 0.005) return ""; // milliseconds, of which nothing follows
  const percent = Math.round((to / from - 1) * 100);
  return percent === 0 ? "" : percent >= 900 ? `×${Math.round(to / from)}` : `${percent > 0 ? "+" : "−"}${Math.abs(percent)} %`;
}

// --- fields ----------------------------------------------------------------------------------------

/** The text of each field of the attempt that counts. */
function fieldsOf(steps) {
  const texts = new Map();
  for (const [step, node] of steps) {
    const counting = [...node.attempts.values()].filter((attempt) => !attempt.candidate && attempt.superseded === null);
    for (const [name, field] of counting.length ? counting.at(-1).fields : []) {
      texts.set(`${step} · ${name}`, field.typed ? JSON.stringify(field.value, null, 2) : field.text);
    }
  }
  return texts;
}

function fieldsBeside([left, right]) {
  return [...new Set([...left.keys(), ...right.keys()])].map((name) => {
    const [a, b] = [left.get(name), right.get(name)], box = element("section", "beside"), same = a !== undefined && a === b;
    box.append(element("h3", "", name));
    if (same) box.firstChild.append(element("span", "change", "the same in both"));
    const texts = same ? [element("div", "text", a)] : differing(a, b);
    const pair = element("div", same ? "pair same" : "pair");
    pair.append(...texts);
    box.append(pair);
    return box;
  });
}

/** Both texts, with what is between their common beginning and end marked. */
function differing(a, b) {
  if (a === undefined || b === undefined) return [a, b].map((text) => (text === undefined ? element("div", "text none", "no such field") : element("div", "text", text)));
  const [one, two] = [words(a), words(b)], most = Math.min(one.length, two.length);
  let from = 0, behind = 0;
  while (from < most && one[from] === two[from]) from++;
  while (behind < most - from && one[one.length - 1 - behind] === two[two.length - 1 - behind]) behind++;
  return [one, two].map((parts) => {
    const box = element("div", "text"), middle = parts.slice(from, parts.length - behind).join("");
    box.append(parts.slice(0, from).join(""));
    if (middle) box.append(element("mark", "", middle));
    box.append(parts.slice(parts.length - behind).join(""));
    return box;
  });
}

const words = (text) => text.split(/(?<=\s)/);

streamll.Compare = Compare;
})(window.streamll = window.streamll || {});
