// The player's controls: play, the slider, the speed, back to the end.
(function (streamll) {
"use strict";
const { set, seconds } = streamll;
const $ = (id) => document.getElementById(id);

class Controls {
  /** `player()`: the run that is shown, or null. `live`: runs can still go on. `toEnd()` follows it. */
  constructor(player, live, toEnd) {
    this.player = player;
    this.live = live;
    $("scrub").addEventListener("input", (event) => this.scrub(Number(event.target.value)));
    $("play").addEventListener("click", () => this.toggle());
    $("live").addEventListener("click", toEnd);
    $("speed").addEventListener("change", (event) => { if (player()) player().speed = Number(event.target.value); });
  }

  scrub(value) {
    const player = this.player();
    if (!player) return;
    player.playing = false;
    if (value >= 1000) player.follow(); else player.seek((value / 1000) * player.length);
  }

  toggle() {
    const player = this.player();
    if (!player) return;
    player.speed = Number($("speed").value);
    if (player.playing) player.pause(); else player.play();
  }

  /** A part of the run back, or on. */
  move(part) {
    const player = this.player();
    if (player) player.seek(player.at + Math.sign(part) * Math.max(0.02, Math.abs(part) * player.length));
  }

  draw() {
    const player = this.player();
    const scrub = $("scrub"), length = player.length, at = player.following ? length : Math.min(player.at, length);
    const value = length ? String(Math.round((at / length) * 1000)) : "1000";
    if (scrub.value !== value) scrub.value = value;
    scrub.style.setProperty("--done", `${Number(value) / 10}%`);
    const told = player.following && !player.over && this.live ? "live" : `${seconds(at)} of ${seconds(length)}`;
    if ($("moment").textContent !== told) { $("moment").textContent = told; scrub.setAttribute("aria-valuetext", told); }
    $("play").classList.toggle("playing", player.playing);
    $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
    set($("live"), player.over || !this.live ? "End" : "Live");
    $("live").setAttribute("aria-pressed", String(player.following));
  }
}

streamll.Controls = Controls;
})(window.streamll = window.streamll || {});
