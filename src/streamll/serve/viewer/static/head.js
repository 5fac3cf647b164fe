// What stands above a run: its program, its state, what went wrong, its numbers.
(function (streamll) {
"use strict";
const { element, set, seconds, count, tokens, usage, money } = streamll;
const $ = (id) => document.getElementById(id);

const STATUS_WORDS = {
  running: "running", asking: "waits for an answer", ended: "done", failed: "failed", cancelled: "stopped", lost: "lost", unfinished: "unfinished",
  away: "no connection",
};

/** The numbers of a run at the moment `now`, as pairs of words. */
function factsOf(run, now) {
  const totals = run.totals;
  return [
    ["Time", seconds(run.duration ?? (run.start === null ? null : now - run.start))],
    ["First token", run.first === null || run.start === null ? "–" : seconds(run.first - run.start)],
    ["Tokens in", totals.lm_calls ? tokens(totals.prompt_tokens, run.reported("prompt_tokens")) : "–"],
    ["Tokens out", tokens(totals.lm_calls ? totals.completion_tokens : null, Math.max(run.reported("completion_tokens"), run.tokens))],
    ...[["Cached", "cache_read_tokens"], ["Reasoning", "reasoning_tokens"]].filter(([, name]) => totals[name]).map(([title, name]) => [title, count(totals[name])]),
    ["Model calls", count(totals.lm_calls)],
    ["Retries", count(run.retries)],
    ...(run.kept ? [["Kept back", count(run.kept)]] : []),
    ...(totals.cost == null ? [] : [["Cost", money(totals.cost)]]),
    ...(run.models.size < 2 ? [] : [...run.models].map(([model, used]) => [model.replace(/^.*\//, ""), usage(used)])),
    ...Object.entries(run.context).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  ];
}

function drawFacts(list, facts) {
  while (list.children.length > facts.length) list.lastChild.remove();
  facts.forEach(([name, value], index) => {
    if (!list.children[index]) {
      const pair = element("div");
      pair.append(element("dt"), element("dd"));
      list.append(pair);
    }
    const [term, told] = list.children[index].children;
    set(term, name);
    set(told, value);
  });
}

/** Draw it; true where the state is another than before. */
function drawHead(run, status, now) {
  set($("program"), run.program || "run");
  const pill = $("status"), isNew = pill.dataset.status !== status;
  if (isNew) {
    pill.dataset.status = status;
    pill.textContent = STATUS_WORDS[status];
  }
  const problem = [run.error, run.lost ? `${streamll.lost(run.lost)} on the way` : ""].filter(Boolean).join(" · ");
  $("problem").hidden = !problem;
  set($("problem"), problem);
  drawFacts($("stats"), factsOf(run, now));
  return isNew;
}

Object.assign(streamll, { STATUS_WORDS, factsOf, drawHead });
})(window.streamll = window.streamll || {});
