// What can be done with the run that is shown: run it again, copy, download.
(function (streamll) {
"use strict";
const { set } = streamll;
const $ = (id) => document.getElementById(id);

const SAID = 2500; // milliseconds for which it is told what has happened

class Actions {
  /** `shown`: the run's page. `form`: to start it again; `started(id)`: what this page has started. `toForm()` shows the form. */
  constructor(source, shown, form, started, toForm) {
    Object.assign(this, { source, shown, form, started, toForm, timer: 0 });
    $("again").addEventListener("click", () => this.again());
    $("copy-link").addEventListener("click", () => this.copyLink());
    $("copy-id").addEventListener("click", () => this.copied("The run's id", shown.id));
    $("save-events").addEventListener("click", () => this.saveEvents());
    $("save-report").addEventListener("click", () => this.saveReport());
    $("save-report").hidden = !source.live; // a report is one
    const menu = $("more");
    menu.addEventListener("click", (event) => { if (event.target.closest("button")) this.shut(); });
    menu.addEventListener("focusout", (event) => { if (!menu.contains(event.relatedTarget)) menu.open = false; });
    menu.addEventListener("keydown", (event) => { if (event.key === "Escape" && menu.open) { event.stopPropagation(); this.shut(); } });
  }

  shut() {
    $("more").open = false;
    $("more").firstElementChild.focus();
  }

  /** The moment that a link leads to: null for the run as it goes on, or its end. */
  get at() {
    const player = this.shown.player;
    return player && !player.following ? player.at : null;
  }

  draw() {
    set($("copy-link"), this.at === null ? "Copy link" : "Copy link to this moment");
    $("again").hidden = !this.given;
  }

  /** What the run was given, where this page has started it or events carry it, and a program that takes it. */
  get given() {
    const { player } = this.shown, begun = player && player.events.slice(0, 20).find((event) => event.event_type === "run.start");
    if (!begun) return null;
    const { program, inputs } = this.started(player.id) || { program: streamll.programOf(begun), inputs: begun.inputs };
    const taking = inputs && this.form.taking(program, inputs);
    return taking ? { program: taking, inputs } : null;
  }

  again() {
    const given = this.given;
    if (!given) return;
    this.toForm();
    this.form.fill(given.program, given.inputs);
  }

  /** To the run that is shown, or to `beside`, the two that are compared. */
  copyLink([run, other] = []) {
    const place = run ? { run, other } : { run: this.shown.id, at: this.at };
    if (place.run) this.copied("The link", streamll.address.linkTo(place));
  }

  async copied(what, text) {
    this.say((await streamll.copy(text)) ? `${what} is copied.` : `${what} cannot be copied here: ${text}`);
  }

  saveEvents() {
    const { id, events } = this.shown.player;
    streamll.save(`run-${id.slice(0, 8)}.jsonl`, streamll.lines(events));
  }

  async saveReport() {
    const id = this.shown.id;
    try {
      streamll.save(`run-${id.slice(0, 8)}.html`, await this.source.report(id));
    } catch (problem) {
      this.say(`There is no report: ${problem.message}`);
    }
  }

  say(text) {
    clearTimeout(this.timer);
    set($("said"), text);
    this.timer = setTimeout(() => set($("said"), ""), SAID);
  }
}

streamll.Actions = Actions;
})(window.streamll = window.streamll || {});
