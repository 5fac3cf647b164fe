// Light, dark, or as the system is: a button that goes round, and remembers.
(function (streamll) {
"use strict";

const THEMES = ["auto", "light", "dark"], KEY = "streamll-theme";

function theme(button) {
  const choose = (name) => {
    document.documentElement.dataset.theme = name;
    button.textContent = { auto: "◐", light: "○", dark: "●" }[name];
    button.setAttribute("aria-label", `Colours: ${name}`);
    streamll.remember(KEY, name);
  };
  button.addEventListener("click", () => {
    choose(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
  });
  const kept = streamll.remembered(KEY);
  choose(THEMES.includes(kept) ? kept : "auto");
}

/** What the browser keeps of the page's settings; nothing in a private window. */
streamll.remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* as said */ } };
streamll.remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
streamll.theme = theme;
})(window.streamll = window.streamll || {});
