// The question for a token, where the server wants one.
(function (streamll) {
"use strict";

let asking = null;

/** The token that somebody types; null where the question is closed without one. */
function askToken(refused) {
  asking = asking || new Promise((resolve) => {
    const dialog = document.getElementById("ask-token"), field = document.getElementById("token");
    const told = document.getElementById("token-refused");
    field.value = "";
    told.hidden = !refused;
    if (refused) told.textContent = "The server does not accept this token, or no longer.";
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener("close", () => { asking = null; resolve(dialog.returnValue === "given" ? field.value : null); }, { once: true });
  });
  return asking;
}

streamll.askToken = askToken;
})(window.streamll = window.streamll || {});
