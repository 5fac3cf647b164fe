// The run that is shown: read from its source, and drawn once a frame where something has come.
(function (streamll) {
"use strict";
const $ = (id) => document.getElementById(id);

const TIMELINE = 100, NEAR = 80; // milliseconds between two drawings; pixels from the end
const narrow = matchMedia("(max-width: 820px)");
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const scroller = () => (narrow.matches ? document.scrollingElement : $("run"));

class RunPage {
  /**
   * `page` says what the page knows of runs: `listed(id)` their state in the list, `startable` that this server
   * can stop them, `trouble()` what is wrong with the connection. It is told `refreshSoon()`, by `moved()` that
   * another moment is shown, and by `drawn()` that the run's head is drawn, and `say(text)`s.
   */
  constructor(source, page) {
    this.source = source;
    this.page = page;
    this.player = null;
    this.tails = false; // the run was under way when it was opened: its end is kept in view
    this.close = () => {};
    this.fresh = true;
    this.scheduled = false;
    this.later = 0; // the timer of the next drawing while nothing comes
    this.before = 0;
    this.drawnTimelineAt = 0;
    this.missed = false; // the list was asked for this run, since it did not have it
    this.at = null; // the moment that is shown; null while it goes on
    this.heard = { last: null, at: 0, now: 0 };
    this.output = new streamll.Output($("output"), (thing) => this.asking(thing));
    this.timeline = new streamll.Timeline($("timeline"), $("axis"), (node) => toCard(node));
    this.controls = new streamll.Controls(() => this.player, source.live, () => this.toEnd());
    $("stop").addEventListener("click", async () => {
      $("stop").disabled = true;
      try { await source.stop(this.id); } catch (problem) { page.say(`It goes on: ${problem.message}.`); } finally { $("stop").disabled = false; }
    });
  }

  get id() { return this.player && this.player.id; }

  /** Show a run; `at`: at this moment, in seconds since its start, otherwise as it goes on. */
  open(id, at = null) {
    this.close();
    this.tails = this.page.listed(id) === "running";
    const shown = new streamll.Player(id, (again) => { this.fresh = this.fresh || again; this.schedule(); }, at);
    this.player = shown;
    this.fresh = true;
    this.at = at;
    this.barred = { run: !this.source.live }; // no answers are taken
    this.missed = false;
    $("nothing").hidden = true;
    $("shown").hidden = false;
    document.body.dataset.view = "run";
    this.close = this.source.open(id, (event) => shown.add(event), () => shown.last);
    this.schedule();
    $("run").scrollTo(0, 0);
    if (narrow.matches) { scrollTo(0, 0); $("run").focus({ preventScroll: true }); }
  }

  leave() {
    this.close();
    this.close = () => {};
    this.player = null;
    $("nothing").hidden = false;
    $("shown").hidden = true;
    document.body.dataset.view = "list";
    document.title = "streamll";
  }

  toEnd() {
    if (!this.player) return;
    this.tails = true;
    this.player.follow();
  }

  /** All of it once more: the connection is another. */
  redraw() {
    if (!this.player) return;
    this.drawnTimelineAt = 0;
    this.schedule();
  }

  schedule() {
    clearTimeout(this.later);
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame((time) => this.frame(time));
  }

  frame(time) {
    this.scheduled = false;
    const player = this.player, passed = this.before ? Math.min(0.25, (time - this.before) / 1000) : 0;
    this.before = time;
    if (!player) return;
    player.tick(passed);
    this.draw(time);
    if (player.playing) { this.schedule(); return; }
    this.before = 0;
    // Until something comes only clocks go on: a frame for each of the screen's keeps a core busy for nothing.
    if (player.run.status === "running") this.later = setTimeout(() => this.schedule(), TIMELINE);
  }

  draw(time) {
    const player = this.player, run = player.run, now = this.moment();
    const follows = this.tails && player.following && run.status === "running" && isNearEnd();
    if (this.fresh) {
      this.fresh = false;
      this.output.reset();
      this.timeline.reset();
      for (const thing of run.story) run.changed.add(thing);
      this.drawnTimelineAt = 0;
    }
    const changes = this.output.draw(run);
    const due = time - this.drawnTimelineAt > TIMELINE || this.timeline.lacks(run);
    if (due || (changes && run.status !== "running") || !player.following) {
      this.drawnTimelineAt = time;
      this.timeline.draw(run, now, player.following && !player.over ? now : player.start + player.length);
      this.drawHead(run, now);
      this.output.tick();
    }
    this.controls.draw();
    const at = player.following || player.playing ? null : player.at;
    if (this.at !== at) { this.at = at; this.page.moved(); }
    if (follows && changes) { const box = scroller(); box.scrollTop = box.scrollHeight; }
  }

  /** The clock of what is shown: the server's, carried on while a run is silent. */
  moment() {
    const player = this.player, heard = this.heard;
    if (!player.following) return player.start + Math.min(player.at, player.length);
    const last = player.run.now || 0;
    if (player.over || !this.source.live) return last;
    if (heard.last !== last) this.heard = { last, at: performance.now(), now: last };
    else if (!this.page.trouble()) heard.now = last + (performance.now() - heard.at) / 1000; // else it stands still
    return this.heard.now;
  }

  /** A question that has been answered, at whatever moment, is one to read. */
  asking({ question }) {
    const id = this.id, closed = this.player.events.some((event) => event.event_type === "answer" && event.question_id === question.question_id);
    const answer = this.source.live && !closed && !this.barred.run && !this.player.over ? (body) => this.source.answer(id, body) : null;
    return { answer, barred: this.barred };
  }

  drawHead(run, now) {
    const player = this.player, live = this.source.live, goesOn = player.following && !player.over;
    if (live && !this.missed && this.page.listed(run.id) === undefined) {
      this.missed = true; // it is new, or the list has only others
      this.page.refreshSoon();
    }
    const status = goesOn && !live ? "unfinished" : goesOn && this.page.trouble() ? "away" : run.waits ? "asking" : run.status;
    if (streamll.drawHead(run, status, now)) {
      if (live && player.over) this.page.refreshSoon();
      if (player.following) document.title = `${run.program || "run"} · ${streamll.STATUS_WORDS[status]}`;
    }
    $("stop").hidden = !this.page.startable || player.over;
    this.page.drawn();
  }
}

function toCard(node) {
  const card = cardFor(node);
  if (!card) return;
  card.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
  card.focus({ preventScroll: true });
}

function cardFor(node) {
  const own = $(`card-${node.id}`);
  if (own) return own;
  for (const child of node.children) { const found = cardFor(child); if (found) return found; }
  return null;
}

function isNearEnd() {
  const box = scroller();
  return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
}

Object.assign(streamll, { RunPage, narrow });
})(window.streamll = window.streamll || {});
