// A text as it is, or as what its Markdown means. While it grows, only its last block is read again.
(function (streamll) {
"use strict";
const { element, Growing, Code, blockOf, rowsOf } = streamll;

/** What makes a text one that is read as Markdown; `report.py` looks for the same. */
const MARKDOWN = /^ {0,3}(?:#{2,6} +\S|# +\S.*\n[ \t]*\n|```|~~~|[-*] +\S|\d{1,3}[.)] +\S|> +\S|\|.*\|[ \t]*$)|\*\*[^\s*][^*\n]{0,300}\*\*|`[^`\n]{1,300}`|\[[^\]\n]{1,300}\]\([^)\s]{1,300}\)/m;

const FILE = "vendor/markdown.js"; // the lexer and the highlighter
const BEFORE = 2000; // characters before what is new that are looked at again
const BLOCK = 4000; // characters: a list or table that is longer is read on from its last element
const LONGEST = 16_000; // characters: any other block that is longer is cut at a line's end
const PORTION = 20_000; // characters that are read at a time, where very many come at once
const SHARE = 2; // how many times as long as reading took, no reading follows
const DEEPEST = 20; // blocks in blocks; of what is deeper nothing is read
const FENCE = /^ {0,3}(`{3,}(?=[^`\n]*\n)|~{3,})([^\n]*)\n/;
const NESTED = new RegExp(`^(?:[ \\t]*(?:>|[-+*]|\\d{1,9}[.)])){${DEEPEST}}`, "m");

let wanted = true;
try { wanted = localStorage.getItem("streamll-text") !== "plain"; } catch { /* nothing is kept in a private window */ }
let loading = false;
const listeners = new Set();
const tell = () => { for (const told of listeners) told(); };

/** Whether texts are shown as what their Markdown means, for all of them; the browser keeps it. */
const Markdown = {
  get wanted() { return wanted; },
  toggle() {
    wanted = !wanted;
    try { localStorage.setItem("streamll-text", wanted ? "markdown" : "plain"); } catch { /* as above */ }
    tell();
  },
  /** `told()` is called when texts are to be drawn the other way. */
  onChange(told) { listeners.add(told); },
  load() {
    if (loading || streamll.vendor) return;
    loading = true;
    const script = element("script");
    script.src = FILE;
    script.addEventListener("load", tell);
    document.head.append(script);
  },
};

/** A field's text in a box. */
class Prose {
  constructor(box) {
    this.box = box;
    this.begin(0);
  }
  begin(version) {
    this.version = version;
    this.shown = 0; // UTF-16 units that are drawn
    this.rich = false; // there is Markdown in it
    this.view = null;
  }
  show(field) {
    if (this.version !== field.version) this.begin(field.version);
    const text = field.text;
    if (!this.rich) this.rich = MARKDOWN.test(this.latest(text));
    if (this.rich && wanted) Markdown.load();
    const Way = this.rich && wanted && streamll.vendor ? Rendered : Growing;
    if (!(this.view instanceof Way) || this.view.constructor !== Way) {
      this.view?.leave?.();
      this.view = new Way(this.box);
      this.shown = 0;
      this.box.classList.toggle("md", Way === Rendered);
    }
    if (this.shown < text.length) this.view.append(text.slice(this.shown));
    this.shown = text.length;
    if (field.done) this.view.finish?.();
  }
  /** What is new, from the beginning of the line before it. */
  latest(text) {
    const line = text.lastIndexOf("\n", text.lastIndexOf("\n", this.shown - 1) - 1) + 1, least = this.shown - BEFORE;
    return line >= least ? text.slice(line) : `…${text.slice(least)}`;
  }
}

function tokensOf(text) {
  const plain = [{ type: "plain", raw: text }];
  if (NESTED.test(text)) return plain;
  try {
    const tokens = streamll.vendor.lex(text);
    return tokens.reduce((sum, token) => sum + token.raw.length, 0) === text.length ? tokens : plain;
  } catch { // its recursion has an end, and a text may be made to find it
    return plain;
  }
}

/** Whether what a block begins with shows that it is one: else it may yet turn out to belong to the block before. */
function isSure(token, before) {
  if (!before || before.type === "space") return true;
  return token.raw.split("\n").length > (token.type === "table" ? 2 : 1);
}

class Rendered {
  constructor(box) {
    this.box = box;
    this.box.replaceChildren();
    this.coming = ""; // what is not read yet
    this.done = false;
    this.tail = ""; // what is not settled: the last block
    this.half = ""; // a line's end of which there may be more
    this.head = ""; // the first two lines of the table that goes on
    this.table = null; // and the table
    this.code = null; // the fenced block that goes on
    this.group = null;
    this.size = 0; // characters in the group
    this.last = null; // the element of the last block
    this.timer = 0;
    this.free = 0; // when it may be read again
  }
  append(text) {
    const come = this.half + text;
    this.half = come.endsWith("\r") ? "\r" : "";
    this.coming += come.slice(0, come.length - this.half.length).replace(/\r\n?/g, "\n");
    this.readSoon();
  }
  /** There is no more to come. */
  finish() {
    if (!this.tail && !this.code && !this.coming) return;
    this.done = true;
    if (this.coming.length <= PORTION) this.read(); else this.readSoon();
  }
  leave() { clearTimeout(this.timer); }

  readSoon() {
    if (this.timer) return;
    const wait = this.free - performance.now();
    if (wait > 0) this.timer = setTimeout(() => this.read(), wait); else this.read();
  }
  read() {
    const begun = performance.now();
    this.leave();
    this.timer = 0;
    this.last?.remove();
    this.last = null;
    this.tail += this.coming.slice(0, PORTION);
    this.coming = this.coming.slice(PORTION);
    const all = this.done && !this.coming;
    while (this.code || this.tail) {
      const more = this.code || this.opens() ? this.goOn(all) : this.blocks(all);
      if (!more) break;
    }
    this.free = performance.now() + SHARE * (performance.now() - begun);
    if (this.coming) this.readSoon();
  }

  /** A fence at the beginning of what is left: the lexer does not read its code, however long it gets. */
  opens() {
    const found = FENCE.exec(this.tail);
    if (!found) return false;
    const [line, fence, language] = found;
    this.tail = this.tail.slice(line.length);
    this.code = new Code(language);
    this.code.end = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}[ \\t]*(\\n|$)`, "m");
    this.settle(this.code.box, line.length);
    return true;
  }
  /** More of the code. True where it has ended. */
  goOn(all) {
    const line = this.code.midLine ? this.tail.indexOf("\n") + 1 || this.tail.length : 0; // where the next line begins
    const lines = this.tail.slice(line), end = this.code.end.exec(lines), ended = Boolean(end && (end[1] || all));
    // A last line that may become the closing one is not shown yet.
    const open = /(?:^|\n) {0,3}[`~]*[ \t]*$/.exec(lines);
    const to = ended ? line + end.index : open && !all ? line + open.index : this.tail.length;
    this.code.append(this.tail.slice(0, to));
    this.size += to;
    this.tail = this.tail.slice(ended ? line + end.index + end[0].length : to);
    if (!ended && !all) return false;
    this.code.finish();
    this.code = null;
    return true;
  }

  /** All blocks but the last one, which grows, are settled. True where a fence follows. */
  blocks(all) {
    const tokens = tokensOf(this.head + this.tail);
    let last = tokens.length - 1;
    while (last > 0 && tokens[last].type === "space") last--;
    let rest = all ? undefined : tokens[last];
    const fenced = rest?.type === "code" && FENCE.test(rest.raw);
    const open = all ? tokens.length : fenced || isSure(rest, tokens[last - 1]) ? last : last - 1;
    let used = -this.head.length;
    for (const token of tokens.slice(0, open)) {
      this.put(token);
      this.head = "";
      this.table = null;
      used += token.raw.length;
    }
    if (open === last && !fenced && rest.raw.length > BLOCK) {
      const [size, left] = this.cut(rest);
      used += size;
      rest = left;
    }
    this.tail = this.tail.slice(Math.max(0, used));
    if (rest && !fenced) this.drawLast(open < last ? [tokens[open], rest] : [rest]);
    return fenced && FENCE.test(this.tail);
  }
  put(token) {
    if (token.type === "space") return null;
    if (this.table && token.type === "table") { rowsOf(token, this.table.tBodies[0]); return this.table; }
    return this.settle(blockOf(token), token.raw.length);
  }
  drawLast(tokens) {
    if (this.table && tokens[0].type === "table") {
      this.last = element("tbody");
      rowsOf(tokens[0], this.last);
      this.table.append(this.last);
    } else {
      this.last = element("div", "run-on");
      this.last.append(...tokens.filter((token) => token.type !== "space").map((token) => blockOf(token)));
      this.box.append(this.last);
    }
  }

  /** Of a block that has become long, what is settled now: how many characters, and the rest as a token. */
  cut(token) {
    if (token.type === "list" && token.items.length > 1) {
      const items = token.items.slice(0, -1), raw = items.map((item) => item.raw).join("");
      this.put({ ...token, items, raw });
      const start = token.ordered ? Number(token.start) + items.length : token.start;
      return [raw.length, { ...token, start, items: token.items.slice(-1) }];
    }
    if (token.type === "table" && token.rows.length > 1) {
      const size = token.raw.trimEnd().lastIndexOf("\n") + 1;
      this.table = this.put({ ...token, rows: token.rows.slice(0, -1) });
      this.head = token.raw.split("\n", 2).join("\n") + "\n";
      return [size, { ...token, rows: token.rows.slice(-1) }];
    }
    if (token.raw.length < LONGEST) return [0, token];
    const size = token.raw.lastIndexOf("\n") + 1 || token.raw.lastIndexOf(" ") + 1 || token.raw.length;
    for (const part of tokensOf(token.raw.slice(0, size))) this.put(part);
    return [size, null];
  }

  /** What does not change any more goes into groups, which are laid out only where they are seen. */
  settle(box, size) {
    if (!this.group || this.size >= BLOCK) {
      this.group = element("div", "run-on");
      this.box.append(this.group);
      this.size = 0;
    }
    this.group.append(box);
    this.size += size;
    return box;
  }
}

Object.assign(streamll, { Markdown, Prose });
})(window.streamll = window.streamll || {});
