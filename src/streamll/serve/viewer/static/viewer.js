// The page: runs at the side, one of them shown, a form to start another.
(function (streamll) {
"use strict";
const { element, seconds, count, tokens, usage, money } = streamll;
const $ = (id) => document.getElementById(id);

const enclosed = $("events");
const source = enclosed
  ? new streamll.Enclosed(JSON.parse(enclosed.textContent))
  : new streamll.Server((text) => { trouble.run = text; drawConnection(); }, askToken);

const POLL = 1500, TIMELINE = 100, NEAR = 80;
const STATUS_WORDS = {
  running: "running", ended: "done", failed: "failed", cancelled: "stopped", lost: "lost", unfinished: "unfinished",
  away: "no connection",
};
const trouble = { run: "", list: "" }; // what is wrong with the connection

// --- one run ---------------------------------------------------------------------------------------

let startable = false; // what this server runs, it can stop
const asked = new Map(); // what was asked of the runs that this page started
const form = new streamll.Form($("form"), async (program, inputs) => {
  const started = await source.start(program, inputs);
  asked.set(started.run_id, Object.values(inputs).find((value) => typeof value === "string" && value.trim() && !value.startsWith("data:")) || "");
  await refresh();
  show(started.run_id);
});
let awaited = false; // the first run is to be shown as soon as there is one
let tails = false; // the run was under way when it was opened: its end is kept in view
let player = null, close = () => {}, fresh = true, scheduled = false, drawnTimelineAt = 0;
const output = new streamll.Output($("output"));
const timeline = new streamll.Timeline($("timeline"), $("axis"), (node) => {
  const card = cardFor(node);
  if (!card) return;
  card.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
  card.focus({ preventScroll: true });
});

function cardFor(node) {
  const own = $(`card-${node.id}`);
  if (own) return own;
  for (const child of node.children) { const found = cardFor(child); if (found) return found; }
  return null;
}

function show(id) {
  if (player && player.id === id) return;
  close();
  awaited = false;
  tails = listed(id) === "running";
  player = new streamll.Player(id, (again) => { fresh = fresh || again; schedule(); });
  fresh = true;
  $("nothing").hidden = true;
  $("shown").hidden = false;
  document.body.dataset.view = "run";
  keep(id);
  const shown = player;
  close = source.open(id, (event) => shown.add(event), () => shown.last);
  markChosen();
  schedule();
  $("run").scrollTo(0, 0);
  if (narrow.matches) { scrollTo(0, 0); $("run").focus({ preventScroll: true }); }
}

function leave() {
  const from = player && items.get(player.id);
  awaited = false;
  close();
  close = () => {};
  player = null;
  $("nothing").hidden = false;
  $("shown").hidden = true;
  document.body.dataset.view = "list";
  document.title = "streamll";
  keep(null);
  markChosen();
  if (from) from.firstChild.focus(); // where the keyboard came from
}

function keep(id) {
  history.replaceState(null, "", id ? `#run=${encodeURIComponent(id)}` : location.pathname + location.search);
}

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(frame);
}

let before = 0;
function frame(time) {
  scheduled = false;
  const passed = before ? Math.min(0.25, (time - before) / 1000) : 0;
  before = time;
  if (!player) return;
  player.tick(passed);
  draw(time);
  if (player.playing || player.run.status === "running") schedule(); else before = 0;
}

function draw(time) {
  const run = player.run, follows = tails && player.following && run.status === "running" && isNearEnd();
  const now = moment();
  if (fresh) {
    fresh = false;
    output.reset();
    timeline.reset();
    for (const thing of run.story) run.changed.add(thing);
    drawnTimelineAt = 0;
  }
  const changes = output.draw(run);
  if (time - drawnTimelineAt > TIMELINE || (changes && run.status !== "running") || !player.following) {
    drawnTimelineAt = time;
    timeline.draw(run, now, player.following && !player.over ? now : player.start + player.length);
    drawHead(run, now);
  }
  drawPlayer();
  if (follows && changes) { const box = scroller(); box.scrollTop = box.scrollHeight; }
}

/** The clock of what is shown: the server's, carried on while a run is silent. */
let heard = { last: null, at: 0, now: 0 };
function moment() {
  if (!player.following) return player.start + player.at;
  const last = player.run.now || 0;
  if (player.over || !source.live) return last;
  if (heard.last !== last) heard = { last, at: performance.now(), now: last };
  if (!trouble.run) heard.now = last + (performance.now() - heard.at) / 1000; // else it stands still
  return heard.now;
}

function drawHead(run, now) {
  $("program").textContent = run.program || "run";
  if (source.live && listed(run.id) === undefined) refreshSoon();
  const unfinished = !source.live && player.following && !player.over;
  const away = trouble.run && player.following && !player.over;
  const status = unfinished ? "unfinished" : away ? "away" : run.status;
  const pill = $("status");
  if (pill.dataset.status !== status) {
    pill.dataset.status = status;
    pill.textContent = STATUS_WORDS[status];
    if (source.live && player.over) refreshSoon();
    if (player.following) document.title = `${run.program || "run"} · ${STATUS_WORDS[status]}`;
  }
  $("stop").hidden = !startable || player.over;
  const problem = [run.error, run.lost ? `${streamll.lost(run.lost)} on the way` : ""].filter(Boolean).join(" · ");
  $("problem").hidden = !problem;
  if ($("problem").textContent !== problem) $("problem").textContent = problem;
  const totals = run.totals;
  const facts = [
    ["Time", seconds(run.duration ?? (run.start === null ? null : now - run.start))],
    ["First token", run.first === null || run.start === null ? "–" : seconds(run.first - run.start)],
    ["Tokens in", totals.lm_calls ? tokens(totals.prompt_tokens, run.reported("prompt_tokens")) : "–"],
    ["Tokens out", tokens(totals.lm_calls ? totals.completion_tokens : null, Math.max(run.reported("completion_tokens"), run.tokens))],
    ...[["Cached", "cache_read_tokens"], ["Reasoning", "reasoning_tokens"]].filter(([, name]) => totals[name]).map(([title, name]) => [title, count(totals[name])]),
    ["Model calls", count(totals.lm_calls)],
    ["Retries", count(run.retries)],
    ...(totals.cost == null ? [] : [["Cost", money(totals.cost)]]),
    ...(run.models.size < 2 ? [] : [...run.models].map(([model, used]) => [model.replace(/^.*\//, ""), usage(used)])),
    ...Object.entries(run.context).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  ];
  const list = $("stats");
  while (list.children.length > facts.length) list.lastChild.remove();
  facts.forEach(([name, value], index) => {
    if (!list.children[index]) {
      const pair = element("div");
      pair.append(element("dt"), element("dd"));
      list.append(pair);
    }
    const [term, told] = list.children[index].children;
    if (term.textContent !== name) term.textContent = name;
    if (told.textContent !== value) told.textContent = value;
  });
}

function drawPlayer() {
  const scrub = $("scrub"), length = player.length, at = player.following ? length : player.at;
  const value = length ? String(Math.round((at / length) * 1000)) : "1000";
  if (scrub.value !== value) scrub.value = value;
  scrub.style.setProperty("--done", `${Number(value) / 10}%`);
  const told = player.following && !player.over && source.live ? "live" : `${seconds(at)} of ${seconds(length)}`;
  if ($("moment").textContent !== told) { $("moment").textContent = told; scrub.setAttribute("aria-valuetext", told); }
  $("play").classList.toggle("playing", player.playing);
  $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  const end = player.over || !source.live ? "End" : "Live";
  if ($("live").textContent !== end) $("live").textContent = end;
  $("live").setAttribute("aria-pressed", String(player.following));
}

const narrow = matchMedia("(max-width: 820px)");
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const scroller = () => (narrow.matches ? document.scrollingElement : $("run"));
function isNearEnd() {
  const box = scroller();
  return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
}

$("scrub").addEventListener("input", (event) => {
  if (!player) return;
  player.playing = false;
  const value = Number(event.target.value);
  if (value >= 1000) player.follow(); else player.seek((value / 1000) * player.length);
});
$("play").addEventListener("click", toggle);
$("live").addEventListener("click", toEnd);
$("speed").addEventListener("change", (event) => { if (player) player.speed = Number(event.target.value); });
$("stop").addEventListener("click", async () => {
  $("stop").disabled = true;
  try { await source.stop(player.id); } finally { $("stop").disabled = false; }
});
$("back").addEventListener("click", leave);

function toEnd() {
  if (!player) return;
  tails = true;
  player.follow();
}

function toggle() {
  if (!player) return;
  player.speed = Number($("speed").value);
  if (player.playing) player.pause(); else player.play();
}

// --- the list ----------------------------------------------------------------------------------------

let runs = [];
const items = new Map();

async function refresh() {
  try {
    runs = await source.runs();
    trouble.list = "";
    drawRuns();
    if (awaited && runs.length && !narrow.matches) show(runs[0].run_id);
  } catch (problem) {
    trouble.list = problem instanceof streamll.Unauthorized ? problem.message : "the server does not answer";
  }
  drawConnection();
}

function drawConnection() {
  const text = trouble.run || trouble.list;
  set($("connection"), text);
  $("enter-token").hidden = !source.waved;
  if (player) { drawnTimelineAt = 0; schedule(); }
}

function drawRuns() {
  $("no-runs").hidden = runs.length > 0;
  set($("nothing-text"), startable ? (runs.length ? "Choose a run, or start one." : "Start a run: it appears here while it goes.") : runs.length ? "Choose a run." : "Nothing has run yet.");
  const known = new Set();
  runs.forEach((run, index) => {
    known.add(run.run_id);
    let item = items.get(run.run_id);
    if (!item) {
      const button = element("button");
      button.type = "button";
      button.append(element("span", "dot"), element("span", "program"), element("span", "asked"), element("span", "when"), element("span", "took"));
      button.addEventListener("click", () => { show(run.run_id); });
      item = element("li");
      item.append(button);
      items.set(run.run_id, item);
    }
    const [dot, program, question, when, took] = item.firstChild.children;
    const status = player && player.id === run.run_id && player.over ? streamll.STATUS[player.events.at(-1).event_type] : run.status;
    dot.dataset.status = status;
    dot.title = STATUS_WORDS[status] || status;
    dot.textContent = STATUS_WORDS[status] || status;
    set(program, run.program);
    set(question, (asked.get(run.run_id) || "").slice(0, 200));
    set(when, ago(run.started_at));
    set(took, run.ended_at ? seconds(run.ended_at - run.started_at) : "…");
    if ($("runs").children[index] !== item) $("runs").insertBefore(item, $("runs").children[index] || null);
  });
  for (const [id, item] of items) if (!known.has(id)) { item.remove(); items.delete(id); }
  markChosen();
}

let coming = false; // a look at the list, sooner than the next one
function refreshSoon() {
  if (coming) return;
  coming = true;
  setTimeout(() => { coming = false; refresh(); }, 150);
}

function listed(id) { return (runs.find((run) => run.run_id === id) || {}).status; }

function set(box, text) { if (box.textContent !== text) box.textContent = text; }

function ago(timestamp) {
  const date = new Date(timestamp * 1000), today = new Date().toDateString() === date.toDateString();
  return today ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

function markChosen() {
  for (const [id, item] of items) {
    if (player && player.id === id) item.firstChild.setAttribute("aria-current", "true");
    else item.firstChild.removeAttribute("aria-current");
  }
}

function step(by) {
  if (!runs.length) return;
  const at = player ? runs.findIndex((run) => run.run_id === player.id) : -1;
  const next = runs[Math.min(Math.max(0, at + by), runs.length - 1)];
  show(next.run_id);
  items.get(next.run_id).scrollIntoView({ block: "nearest" });
}

// --- keys, colours, token ------------------------------------------------------------------------------

const KEYS = {
  j: () => step(1), k: () => step(-1), l: toEnd, " ": toggle,
  n: () => { if (form.first) { if (narrow.matches) leave(); form.first.focus(); } },
  "?": () => $("keys").showModal(),
  arrowleft: () => player && player.seek(player.at - Math.max(0.02, player.length / 50)),
  arrowright: () => player && player.seek(player.at + Math.max(0.02, player.length / 50)),
  home: () => player && player.seek(0), end: () => player && player.follow(), escape: leave,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input:not([type=range]), textarea, select");
  if (typing) { if (event.key === "Escape") event.target.blur(); return; }
  if (event.key === " " && event.target.matches("button:not([aria-current]), summary")) return;
  if (event.target.matches("input[type=range]") && /^(Arrow|Home|End)/.test(event.key)) return;
  const act = KEYS[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which run is shown
  if (player) $("run").focus();
  else if (items.size) items.values().next().value.firstChild.focus();
});
$("help").addEventListener("click", () => $("keys").showModal());

const THEMES = ["auto", "light", "dark"];
function theme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = { auto: "◐", light: "○", dark: "●" }[name];
  $("theme").setAttribute("aria-label", `Colours: ${name}`);
  try { localStorage.setItem("streamll-theme", name); } catch { /* nothing is kept in a private window */ }
}
$("theme").addEventListener("click", () => {
  theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
});
let kept = "auto";
try { kept = localStorage.getItem("streamll-theme") || "auto"; } catch { /* as above */ }
theme(THEMES.includes(kept) ? kept : "auto");

let asking = null;
/** The token that somebody types; null where the question is closed without one. */
function askToken(refused) {
  asking = asking || new Promise((resolve) => {
    const dialog = $("ask-token"), field = $("token");
    field.value = "";
    $("token-refused").hidden = !refused;
    if (refused) $("token-refused").textContent = "The server does not accept this token, or no longer.";
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener("close", () => { asking = null; resolve(dialog.returnValue === "given" ? field.value : null); }, { once: true });
  });
  return asking;
}
$("enter-token").addEventListener("click", () => { source.waved = false; begin(); });

// --- begin -----------------------------------------------------------------------------------------------

async function begin() {
  document.body.classList.toggle("report", !source.live);
  const wanted = new URLSearchParams(location.hash.slice(1)).get("run") || source.only;
  await refresh();
  try {
    const programs = await source.programs();
    startable = programs.length > 0 || Boolean(source.only);
    form.draw(programs);
    drawRuns();
  } catch { /* the list says that nobody answers */ }
  if (wanted) show(wanted);
  else if (runs.length && !player && (!source.live || !narrow.matches)) show(runs[0].run_id);
  else awaited = !player;
}
if (source.live) setInterval(() => { if (!document.hidden && !source.only) refresh(); }, POLL);
begin();
streamll.page = { player: () => player };
})(window.streamll = window.streamll || {});
