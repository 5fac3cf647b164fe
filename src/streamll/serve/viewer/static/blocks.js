// The lexer's tokens of a Markdown text as elements. They are made by createElement and text nodes: a text has no
// way to become HTML. An address leads somewhere only if its scheme is harmless, and no picture is loaded.
(function (streamll) {
"use strict";
const { element, Growing, copyButton } = streamll;

const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const COLOURED = 20_000; // characters of code that are coloured
const DEEPEST = 24; // elements in elements
const NAMED = Object.assign(Object.create(null), { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" });

/** Character references as characters: `&lt;` is what a text must write for `<` in Markdown. */
function decoded(text) {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(\w+));/g, (whole, decimal, hex, name) => {
    if (name) return NAMED[name] ?? whole;
    const code = decimal ? Number(decimal) : parseInt(hex, 16);
    return code > 0 && code < 0x110000 ? String.fromCodePoint(code) : whole;
  });
}

/** A whole address with a harmless scheme, or null. What is relative would lead into the viewer itself. */
function address(href) {
  try {
    const url = new URL(decoded(href));
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(href, title) {
  const made = element("a");
  made.href = href;
  made.title = title && title !== href ? `${title}\n${href}` : href;
  made.target = "_blank";
  made.rel = "noopener noreferrer nofollow";
  return made;
}

// --- within a line ----------------------------------------------------------------------------------

const SPANS = { strong: "strong", em: "em", del: "del" };

function inline(tokens, into, depth) {
  for (const token of tokens || []) into.append(depth > DEEPEST ? token.raw : span(token, depth));
}

function span(token, depth) {
  switch (token.type) {
    case "text": return token.tokens ? within(element("span"), token, depth) : decoded(token.text);
    case "strong": case "em": case "del": return within(element(SPANS[token.type]), token, depth);
    case "codespan": return element("code", "", token.text);
    case "br": return element("br");
    case "html": return /^<br\s*\/?>$/i.test(token.raw) ? element("br") : token.raw;
    case "escape": return "()[]".includes(token.text) ? token.raw : token.text; // \( begins a formula
    case "checkbox": return token.checked ? "☑ " : "☐ ";
    case "link": {
      const href = address(token.href);
      return href ? within(link(href, token.title && decoded(token.title)), token, depth) : token.raw;
    }
    case "image": {
      const href = address(token.href), name = `image: ${decoded(token.text) || "without a name"}`;
      return href ? Object.assign(link(href), { textContent: name, className: "image" }) : element("span", "image", name);
    }
    default: return token.raw;
  }
}

function within(made, token, depth) {
  inline(token.tokens, made, depth + 1);
  return made;
}

// --- blocks -----------------------------------------------------------------------------------------

function blockOf(token, depth = 0) {
  if (depth > DEEPEST) return element("p", "raw", token.raw);
  switch (token.type) {
    case "heading": return within(element(`h${Math.min(6, token.depth + 3)}`), token, depth);
    case "paragraph": return within(element("p"), token, depth);
    case "text": return within(element("span"), token, depth);
    case "checkbox": return span(token, depth);
    case "code": return new Code(token.lang, token.text).box;
    case "blockquote": return filled(element("blockquote"), token.tokens, depth);
    case "hr": return element("hr");
    case "list": return list(token, depth);
    case "table": return table(token);
    default: return element("p", "raw", token.raw.replace(/\n+$/, ""));
  }
}

function filled(made, tokens, depth) {
  for (const token of tokens) if (token.type !== "space") made.append(blockOf(token, depth + 1));
  return made;
}

function list(token, depth) {
  const made = element(token.ordered ? "ol" : "ul");
  if (token.ordered && Number(token.start) !== 1) made.start = token.start;
  for (const item of token.items) made.append(filled(element("li", item.task ? "task" : ""), item.tokens, depth));
  return made;
}

function table(token) {
  const made = element("table"), head = made.createTHead().insertRow();
  for (const cell of token.header) {
    const name = Object.assign(element("th"), { scope: "col" });
    name.style.textAlign = cell.align || "";
    inline(cell.tokens, name, 0);
    head.append(name);
  }
  rowsOf(token, made.createTBody());
  return made;
}

function rowsOf(token, body) {
  for (const row of token.rows) {
    const line = body.insertRow();
    row.forEach((cell, column) => {
      const made = line.insertCell();
      made.style.textAlign = cell.align || "";
      made.dataset.name = decoded(token.header[column]?.text || "");
      const inside = element("span");
      inline(cell.tokens, inside, 0);
      made.append(inside);
    });
  }
}

/** A block of code, also one that grows: its language, a button that copies it, and its colours when it is whole. */
class Code {
  constructor(language, text) {
    this.language = /^[\w+#.-]*/.exec((language || "").trim())[0].toLowerCase();
    this.parts = [];
    this.midLine = false;
    this.box = element("div", "codeblock");
    const head = element("div", "head");
    head.append(element("span", "language", this.language), copyButton(() => this.text, "the code"));
    this.code = element("code");
    this.box.append(head, element("pre"));
    this.box.lastChild.append(this.code);
    this.view = new Growing(this.code);
    if (text !== undefined) { this.append(text); this.finish(); }
  }
  get text() { return this.parts.join("").replace(/\n$/, ""); }
  append(text) {
    if (!text) return;
    this.parts.push(text);
    this.midLine = !text.endsWith("\n");
    this.view.append(text);
  }
  finish() {
    const text = this.text;
    if (!this.language || text.length > COLOURED) return;
    let tree = null;
    try { tree = streamll.vendor.highlight(text, this.language); } catch { /* it stays as it is */ }
    if (!tree) return;
    this.code.replaceChildren();
    coloured(tree, this.code);
  }
}

function coloured(tree, into) {
  for (const child of tree.children) {
    if (typeof child === "string") { into.append(child); continue; }
    const part = element("span", `hl-${(child.scope || "").replace(/\W.*$/s, "")}`);
    coloured(child, part);
    into.append(part);
  }
}

Object.assign(streamll, { Code, blockOf, rowsOf });
})(window.streamll = window.streamll || {});
