// What the page's address says: which run is shown, at which moment, and beside which other one.
(function (streamll) {
"use strict";

/** `run` and `other` are ids; `at` is in seconds since the run's start. Null is what is not said. */
function place() {
  const said = new URLSearchParams(location.hash.slice(1)), at = parseFloat(said.get("at"));
  return { run: said.get("run"), at: at >= 0 && at < Infinity ? at : null, other: said.get("with") };
}

/** The whole address of such a place, to be sent to somebody. */
function linkTo({ run, at = null, other = null }) {
  const said = new URLSearchParams();
  if (run) said.set("run", run);
  if (run && at !== null) said.set("at", String(Math.round(at * 1e6) / 1e6));
  if (run && other) said.set("with", other);
  const link = new URL(location.href);
  link.hash = said.toString();
  return link.href.replace(/#$/, "");
}

/** Note in the address where the page is. `anew`: so that the browser's button leads back from it. */
function keep(where, anew) {
  const link = linkTo(where);
  if (link === location.href) return;
  if (anew) history.pushState(null, "", link); else history.replaceState(null, "", link);
}

streamll.address = { place, linkTo, keep };
})(window.streamll = window.streamll || {});
