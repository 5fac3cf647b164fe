// Where in a run the page is: at its end and following, or at an earlier moment, or playing on.
(function (streamll) {
"use strict";

class Player {
  /** `at`: the moment to begin with, in seconds since the run's start; null follows its end. */
  constructor(id, changed, at = null) {
    this.id = id;
    this.events = [];
    this.last = -1; // the seq of the last event that is no token
    this.changed = changed; // called with true where everything has to be drawn anew
    this.following = at === null;
    this.playing = false;
    this.speed = 1;
    this.rewind();
    this.at = at || 0;
  }

  rewind() {
    this.run = new streamll.Run(this.id);
    this.index = 0;
    this.at = 0; // seconds since the run's start
  }

  get start() { return this.events.length ? this.events[0].timestamp : 0; }
  get length() { return this.events.length ? Math.max(0, this.events.at(-1).timestamp - this.start) : 0; }
  get over() { return this.events.length > 0 && streamll.STATUS[this.events.at(-1).event_type] !== undefined; }

  /** An event has come; once more after a reconnection does no harm. */
  add(event) {
    // Tokens are left alone: one that was merged reaches beyond events of other calls, which come after it.
    if (event.seq !== undefined && event.seq !== null && event.event_type !== "token") {
      if (event.seq <= this.last) return;
      this.last = event.seq;
    }
    this.events.push(event);
    if (this.following || this.isBefore(event)) this.advance(this.events.length);
    this.changed(false);
  }

  /** Whether it belongs to the moment that is shown, where that has not come yet. */
  isBefore(event) { return this.index === this.events.length - 1 && event.timestamp <= this.start + this.at + 1e-6; }

  advance(to) {
    while (this.index < to) this.run.feed(this.events[this.index++]);
    if (this.following) this.at = this.length;
  }

  seek(at) {
    this.following = false;
    at = Math.min(Math.max(0, at), this.length);
    const index = this.indexAt(at);
    const again = index < this.index;
    if (again) this.rewind();
    this.at = at;
    this.advance(index);
    this.changed(again);
  }

  follow() {
    this.playing = false;
    this.following = true;
    this.advance(this.events.length);
    this.changed(false);
  }

  play() {
    if (this.following || this.at >= this.length) {
      this.following = false;
      this.rewind();
      this.changed(true);
    }
    this.playing = true;
    this.changed(false);
  }

  pause() {
    this.playing = false;
    this.following = false;
    this.changed(false);
  }

  /** So many seconds have passed. */
  tick(passed) {
    if (!this.playing) return;
    this.seek(this.at + passed * this.speed);
    if (this.at >= this.length) { this.playing = false; if (this.over) this.follow(); }
  }

  indexAt(at) {
    const until = this.start + at + 1e-6;
    let low = 0, high = this.events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.events[middle].timestamp <= until) low = middle + 1; else high = middle;
    }
    return low;
  }
}

streamll.Player = Player;
})(window.streamll = window.streamll || {});
