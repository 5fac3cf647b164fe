// Which runs the list shows: words, and filters below them.
(function (streamll) {
"use strict";
const { set } = streamll;
const $ = (id) => document.getElementById(id);

const PAUSE = 250; // milliseconds after the last key

class Search {
  /** `changed()`: other runs are wanted. */
  constructor(changed) {
    this.form = $("search");
    this.programs = new Set();
    let timer = 0;
    const soon = () => { clearTimeout(timer); timer = setTimeout(changed, PAUSE); };
    this.form.addEventListener("input", soon);
    this.form.addEventListener("reset", () => setTimeout(() => { changed(); $("q").focus(); }));
    this.form.addEventListener("submit", (event) => { event.preventDefault(); changed(); });
  }

  /** As the server is asked: `q=…&status=…`; empty where all runs are wanted. */
  get query() {
    const asked = new URLSearchParams(), [key, ...value] = $("by-context").value.split("=");
    const say = (name, text) => { if (text) asked.append(name, text); };
    say("q", $("q").value.trim());
    say("program", $("by-program").value);
    say("status", $("by-status").value);
    if (key.trim() && value.length) asked.append(`context.${key.trim()}`, value.join("=").trim());
    for (const name of ["since", "until"]) {
      const time = new Date($(name).value).getTime() / 1000;
      if (time) say(name, String(name === "until" ? time + 59.999 : time)); // all of that minute
    }
    return asked.toString();
  }

  get words() { return $("q").value.trim() !== ""; }

  /** Programs to choose from: those that have run. */
  know(names) {
    for (const name of names) {
      if (!name || this.programs.has(name)) continue;
      this.programs.add(name);
      $("by-program").append(new Option(name, name));
    }
  }

  /** What came of it: `{runs, more, searched}`. */
  draw(found) {
    const asked = this.query;
    this.know(found.runs.map(programOf));
    this.form.hidden = !asked && found.runs.length < 2;
    const filters = [...new Set([...new URLSearchParams(asked).keys()].filter((name) => name !== "q"))].length;
    set($("filtered"), filters ? ` · ${filters}` : "");
    $("clear").hidden = !asked;
    set($("found"), told(found, asked));
  }
}

function told({ runs, more, searched }, asked) {
  const said = [], context = $("by-context").value;
  if (context && !context.includes("=")) said.push("Write a context as key=value.");
  if (asked) said.push(runs.length === 0 ? "No such run." : runs.length === 1 ? "1 run." : `${runs.length} runs.`);
  if (more) said.push("These are the latest; there are older ones.");
  if (searched && searched.texts < searched.runs) said.push(`Time was enough to read ${searched.texts} of ${searched.runs} runs; of the others only what stands here was searched.`);
  return said.join(" ");
}

// --- in a report the page itself looks ---------------------------------------------------------------

/** Of the runs those that a query asks for, as the server would choose. `textOf(run)`: what it has said. */
function wanted(runs, query, textOf) {
  const asked = new URLSearchParams(query), words = (asked.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
  const context = [...asked].filter(([name]) => name.startsWith("context.")).map(([name, value]) => [name.slice(8), value]);
  return runs.filter((run) =>
    (!asked.has("program") || programOf(run) === asked.get("program"))
    && (!asked.has("status") || asked.getAll("status").includes(run.status))
    && !(run.started_at < Number(asked.get("since") ?? -Infinity)) && !(run.started_at > Number(asked.get("until") ?? Infinity))
    && context.every(([key, value]) => Object.hasOwn(run.context, key) && asText(run.context[key]) === value)
    && (!words.length || has(words, [run.run_id, run.program, run.title, ...Object.values(run.context).map(asText), textOf(run)])));
}

const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function has(words, texts) {
  const text = texts.filter(Boolean).join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

/** The name under which a run's program is served, where the context has it; else its own. */
const programOf = (run) => (run.context && run.context.streamll_program) || run.program;

/** The first line of the first input that has text; of a conversation that of its last message. */
function titleOf(inputs) {
  for (let value of Object.values(inputs || {})) {
    if (Array.isArray(value) && value.length) value = value.at(-1)?.content;
    if (typeof value === "string" && value.trim() && !value.startsWith("data:")) return value.trim().split("\n")[0].slice(0, 120);
  }
  return "";
}

Object.assign(streamll, { Search, wanted, programOf, titleOf });
})(window.streamll = window.streamll || {});
