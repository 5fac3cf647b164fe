// Things to take along: text for the clipboard, files.
(function (streamll) {
"use strict";
const { element } = streamll;

/** Copy text; true if that was possible. A page that is not from this machine and without TLS has no clipboard. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const box = element("textarea"), from = document.activeElement;
    box.value = text;
    (document.querySelector("dialog[open]") || document.body).append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    if (from) from.focus();
    return done;
  }
}

function save(name, blob) {
  const link = element("a"), address = URL.createObjectURL(blob);
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Events as JSON lines, which `streamll report` and `streamll replay` read. */
function lines(events) {
  return new Blob(events.map((event) => `${JSON.stringify(event)}\n`), { type: "application/jsonl" });
}

Object.assign(streamll, { copy, save, lines });
})(window.streamll = window.streamll || {});
