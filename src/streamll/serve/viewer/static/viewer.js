// The page: runs at the side, one of them shown, a form to start another. Puts the parts together.
(function (streamll) {
"use strict";
const { set, narrow } = streamll;
const $ = (id) => document.getElementById(id);

const POLL = 1500; // milliseconds between two looks at the list

const enclosed = $("events");
const trouble = { run: "", list: "" }; // what is wrong with the connection
const source = enclosed
  ? new streamll.Enclosed(JSON.parse(enclosed.textContent))
  : new streamll.Server((text) => { trouble.run = text; drawConnection(); }, streamll.askToken);

const list = new streamll.RunList(show);
const page = { startable: false, listed: (id) => list.status(id), trouble: () => trouble.run, refreshSoon };
const shown = new streamll.RunPage(source, page);
list.over = () => (shown.player && shown.player.over ? streamll.STATUS[shown.player.events.at(-1).event_type] : null);
const form = new streamll.Form($("form"), async (program, inputs) => {
  const started = await source.start(program, inputs);
  list.asked.set(started.run_id, Object.values(inputs).find((value) => typeof value === "string" && value.trim() && !value.startsWith("data:")) || "");
  await refresh();
  show(started.run_id);
});
let awaited = false; // the first run is to be shown as soon as there is one

function show(id) {
  if (shown.id === id) return;
  awaited = false;
  shown.open(id);
  keep(id);
  list.mark(id);
}

function leave() {
  const from = shown.id;
  awaited = false;
  shown.leave();
  keep(null);
  list.mark(null);
  if (from) list.focus(from); // where the keyboard came from
}

function keep(id) {
  history.replaceState(null, "", id ? `#run=${encodeURIComponent(id)}` : location.pathname + location.search);
}

async function refresh() {
  try {
    list.draw(await source.runs());
    trouble.list = "";
    drawNothing();
    if (awaited && list.runs.length && !narrow.matches) show(list.runs[0].run_id);
  } catch (problem) {
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

streamll.listen({
  j: () => list.step(1), k: () => list.step(-1), l: () => shown.toEnd(), " ": () => shown.controls.toggle(),
  n: () => { if (form.first) { if (narrow.matches) leave(); form.first.focus(); } },
  "?": () => $("keys").showModal(),
  arrowleft: () => shown.controls.move(-0.02), arrowright: () => shown.controls.move(0.02),
  home: () => shown.player && shown.player.seek(0), end: () => shown.player && shown.player.follow(), escape: leave,
});
$("back").addEventListener("click", leave);
$("help").addEventListener("click", () => $("keys").showModal());
$("enter-token").addEventListener("click", () => { source.waved = false; begin(); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which run is shown
  if (shown.player) $("run").focus(); else list.focus();
});
streamll.theme($("theme"));

async function begin() {
  document.body.classList.toggle("report", !source.live);
  const wanted = new URLSearchParams(location.hash.slice(1)).get("run") || source.only;
  await refresh();
  try {
    const programs = await source.programs();
    page.startable = programs.length > 0 || Boolean(source.only); // what this server runs, it can stop
    form.draw(programs);
    drawNothing();
  } catch { /* the list says that nobody answers */ }
  if (wanted) show(wanted);
  else if (list.runs.length && !shown.player && (!source.live || !narrow.matches)) show(list.runs[0].run_id);
  else awaited = !shown.player;
}
if (source.live) setInterval(() => { if (!document.hidden && !source.only) refresh(); }, POLL);
begin();
streamll.page = { player: () => shown.player };
})(window.streamll = window.streamll || {});
