// What the parts of the page draw with: elements, numbers in words, text that grows.
(function (streamll) {
"use strict";

const BLOCK = 4000; // characters after which a text goes on in another element: layout stays quick

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Text where it is another than before: a screen reader hears no more than what is new. */
function set(box, text) { if (box.textContent !== text) box.textContent = text; }

const seconds = (value) =>
  value == null ? "–" : value > 0 && value < 0.0005 ? "<1 ms" : value < 0.9995 ? `${Math.round(value * 1000)} ms`
  : value < 59.95 ? `${value.toFixed(value < 9.995 ? 2 : 1)} s`
  : `${Math.floor(Math.round(value) / 60)} min ${Math.round(value) % 60} s`;
const count = (value) => (value || 0).toLocaleString("en-US").replace(/,/g, "\u202f");
/** A number of tokens; marked as an estimate where only that is known. */
const tokens = (known, estimate) => (known != null ? count(known) : estimate ? `≈${count(estimate)}` : "–");
/** What a call or a run has used: `120 (64 cached) → 40 (9 reasoning)`. */
const usage = (used) => {
  const part = (value, what) => (value ? ` (${count(value)} ${what})` : "");
  return `${tokens(used.prompt_tokens)}${part(used.cache_read_tokens, "cached")} → ${tokens(used.completion_tokens)}${part(used.reasoning_tokens, "reasoning")}`;
};
const isSpent = (used) => Boolean(used && (used.prompt_tokens || used.completion_tokens));
const money = (value) => (value == null ? "–" : value === 0 ? "$0" : value < 0.01 ? `$${value.toPrecision(2)}` : `$${value.toFixed(3)}`);

/** Text that grows: what is new is appended, nothing is drawn twice. */
class Growing {
  constructor(box) {
    this.box = box;
    this.box.replaceChildren();
    this.node = null;
    this.size = 0;
  }
  append(text) {
    while (text) {
      if (!this.node || this.size >= BLOCK) {
        this.node = document.createTextNode("");
        this.box.append(element("span", "run-on"));
        this.box.lastChild.append(this.node);
        this.size = 0;
      }
      let cut = text.length;
      if (this.size + cut > BLOCK) {
        const end = text.indexOf("\n", Math.max(0, BLOCK - this.size));
        cut = end < 0 || end > 3 * BLOCK ? Math.min(cut, 3 * BLOCK) : end + 1; // a line's end, if there is one
        const last = text.charCodeAt(cut - 1);
        if (last >= 0xd800 && last < 0xdc00 && cut < text.length) cut++;
      }
      this.node.appendData(text.slice(0, cut));
      this.size += cut;
      text = text.slice(cut);
    }
  }
}

/** A button that copies what `text()` returns, and says that it has. */
function copyButton(text, what) {
  const button = element("button", "copy", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy ${what}`);
  button.addEventListener("click", async () => {
    const done = await streamll.copy(text());
    button.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}

Object.assign(streamll, { copyButton, element, set, seconds, count, tokens, usage, isSpent, money, Growing });
})(window.streamll = window.streamll || {});
