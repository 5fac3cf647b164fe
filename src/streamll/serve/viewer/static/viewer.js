// The page: runs at the side, one of them shown, a form to start another. Puts the parts together.
(function (streamll) {
"use strict";
const { set, narrow, address } = streamll;
const $ = (id) => document.getElementById(id);

const POLL = 1500, SEARCH_EVERY = 4; // milliseconds between two looks at the list; of a search every so many
const PATIENCE = 8_000; // milliseconds for which a look waits for the answer to the one before
const NOTED = 250; // milliseconds after which the address says the moment that is shown

const enclosed = $("events");
const trouble = { run: "", list: "" }; // what is wrong with the connection
const source = enclosed
  ? new streamll.Enclosed(JSON.parse(enclosed.textContent))
  : new streamll.Server((text) => { trouble.run = text; drawConnection(); }, streamll.askToken);

const search = new streamll.Search(refresh);
const list = new streamll.RunList(chosen);
const page = { startable: false, listed: (id) => list.status(id), trouble: () => trouble.run, refreshSoon, moved, drawn: () => actions.draw(), say: (text) => actions.say(text) };
const shown = new streamll.RunPage(source, page);
const compare = new streamll.Compare(source, (id) => show(id));
list.over = () => (shown.player && shown.player.over ? streamll.STATUS[shown.player.events.at(-1).event_type] : null);
const form = new streamll.Form($("form"), async (program, inputs) => {
  const started = await source.start(program, inputs);
  list.started.set(started.run_id, { program, inputs });
  await refresh();
  show(started.run_id);
});
const actions = new streamll.Actions(source, shown, form, (id) => list.started.get(id), () => { if (narrow.matches) leave(); });
let awaited = false; // the first run is to be shown as soon as there is one
let picking = null; // the run that another one is looked for to compare it with
let moves = 0; // from one run to another, or to the list

// --- where the page is -------------------------------------------------------------------------------

/** Show a run. `noted`: the address says so already, or `replace` it. */
function show(id, { at = null, replace = false, noted = false } = {}) {
  pick(null);
  moves++;
  if (shown.id === id && $("compare").hidden) return;
  awaited = false;
  compare.leave();
  shown.open(id, at);
  if (!noted) address.keep({ run: id, at }, !replace);
  list.mark(id);
}

function leave(noted = false) {
  const from = compare.ids[0] || shown.id;
  moves++;
  awaited = false;
  pick(null);
  compare.leave();
  shown.leave();
  if (noted !== true) address.keep({}, true);
  list.mark(null);
  if (from) list.focus(from); // where the keyboard came from
}

function beside(id, other, noted = false) {
  pick(null);
  moves++;
  shown.leave();
  $("nothing").hidden = true;
  document.body.dataset.view = "run";
  document.title = "Two runs · streamll";
  compare.show([id, other]);
  if (!noted) address.keep({ run: id, other }, true);
  list.mark(other);
  if (narrow.matches) scrollTo(0, 0);
}

/** Somebody has chosen a run in the list: to be shown, or as the other one to compare with. */
function chosen(id) {
  if (picking && picking !== id) beside(picking, id);
  else if (compare.ids.length && compare.ids[0] !== id) beside(compare.ids[0], id);
  else show(id);
}

function pick(id) {
  picking = id;
  $("picking").hidden = !id;
  $("compare-with").setAttribute("aria-pressed", String(Boolean(id)));
  if (id && narrow.matches) document.body.dataset.view = "list";
  else if (shown.id) document.body.dataset.view = "run";
  if (id && list.chosen) list.focus(list.chosen);
}

/** Back one step: from picking, from two runs to the first, from a run to the list. */
function back() {
  if (picking) pick(null);
  else if (compare.ids.length) show(compare.ids[0]);
  else leave();
}

/** The address was changed: by the browser's buttons, or by hand. */
function go() {
  const { run, at, other } = address.place();
  if (!run) leave(true);
  else if (other) beside(run, other, true);
  else if (run !== shown.id) show(run, { at, noted: true });
  else if (at === null) shown.player.follow();
  else shown.player.seek(at);
}

let noting = 0;
function moved() {
  clearTimeout(noting);
  noting = setTimeout(() => { if (shown.id) address.keep({ run: shown.id, at: actions.at }, false); }, NOTED);
}

// --- the list ----------------------------------------------------------------------------------------

let looks = 0;
let asked = 0, askedAt = 0, answered = 0; // the latest look at the list, when it was, and the latest that is over
async function refresh() {
  const query = search.query, turn = ++asked;
  askedAt = performance.now();
  try {
    const found = await source.runs(query).finally(() => { answered = Math.max(answered, turn); });
    if (query !== search.query || turn < answered) return; // something else is wanted by now, or something later known
    list.draw(found.runs, query !== "");
    search.draw(found);
    $("compare-with").hidden = list.runs.length < 2 && !query;
    trouble.list = "";
    drawNothing();
    if (awaited && list.runs.length && !narrow.matches) show(list.runs[0].run_id, { replace: true });
  } catch (problem) {
    if (turn < answered) return;
    trouble.list = problem instanceof streamll.Unauthorized ? problem.message : "the server does not answer";
  }
  drawConnection();
}

let coming = false; // a look at the list, sooner than the next one
function refreshSoon() {
  if (coming) return;
  coming = true;
  setTimeout(() => { coming = false; refresh(); }, 150);
}

function drawConnection() {
  set($("connection"), trouble.run || trouble.list);
  $("enter-token").hidden = !source.waved;
  shown.redraw();
}

function drawNothing() {
  const some = list.runs.length > 0;
  set($("nothing-text"), page.startable ? (some ? "Choose a run, or start one." : "Start a run: it appears here while it goes.") : some ? "Choose a run." : "Nothing has run yet.");
}

// --- what people do ------------------------------------------------------------------------------------

const player = () => shown.player;
const step = (by) => list.step(by, compare.ids[1] || list.chosen);
streamll.listen({
  j: () => step(1), k: () => step(-1), m: () => streamll.Markdown.toggle(), l: () => shown.toEnd(), " ": () => shown.controls.toggle(),
  n: () => { if (form.first) { if (narrow.matches) leave(); form.first.focus(); } },
  "/": () => { if (!search.form.hidden) { if (narrow.matches) leave(); $("q").focus(); } },
  c: () => { if (player()) pick(picking ? null : shown.id); },
  r: () => actions.again(), y: () => actions.copyLink(compare.ids),
  "?": () => $("keys").showModal(),
  arrowleft: () => shown.controls.move(-0.02), arrowright: () => shown.controls.move(0.02),
  home: () => player() && player().seek(0), end: () => player() && player().follow(), escape: back,
});
$("back").addEventListener("click", back);
$("compare-with").addEventListener("click", () => pick(picking ? null : shown.id));
$("stop-picking").addEventListener("click", back);
$("stop-comparing").addEventListener("click", back);
$("help").addEventListener("click", () => $("keys").showModal());
$("enter-token").addEventListener("click", () => { source.waved = false; begin(); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which run is shown
  if (player() || compare.ids.length) $("run").focus(); else list.focus();
});
addEventListener("popstate", go);
streamll.theme($("theme"));

async function begin() {
  document.body.classList.toggle("report", !source.live);
  const wanted = address.place(), run = wanted.run || source.only, before = moves;
  if (location.hash) address.keep(wanted, false); // without a token
  await refresh();
  try {
    const programs = await source.programs();
    page.startable = programs.length > 0 || Boolean(source.only); // what this server runs, it can stop
    form.draw(programs);
    drawNothing();
  } catch { /* the list says that nobody answers */ }
  if (moves !== before) return; // somebody has chosen another meanwhile
  if (run && wanted.other) beside(run, wanted.other, true);
  else if (run) show(run, { at: wanted.at, replace: true });
  else if (list.runs.length && !shown.player && (!source.live || !narrow.matches)) show(list.runs[0].run_id, { replace: true });
  else awaited = !shown.player;
}
if (source.live) setInterval(() => {
  const waits = $("ask-token").open || (answered < asked && performance.now() - askedAt < PATIENCE);
  if (!waits && !document.hidden && !source.only && (!search.words || looks++ % SEARCH_EVERY === 0)) refresh();
}, POLL);
begin();
streamll.page = { player, form };
})(window.streamll = window.streamll || {});
