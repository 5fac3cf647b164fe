// The keyboard: what single keys do, unless somebody types or a control wants the key itself.
(function (streamll) {
"use strict";

/** `keys`: what each does, by its name in lower case. */
function listen(keys) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches("input:not([type=range]), textarea, select");
    if (typing) { if (event.key === "Escape") event.target.blur(); return; }
    if (event.key === " " && event.target.matches("button:not([aria-current]), summary")) return;
    if (event.target.matches("input[type=range]") && /^(Arrow|Home|End)/.test(event.key)) return;
    const act = keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

streamll.listen = listen;
})(window.streamll = window.streamll || {});
