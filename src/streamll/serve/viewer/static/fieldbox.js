// One field: its name, its text or value while it grows, and buttons to copy it or to see it another way.
(function (streamll) {
"use strict";
const { element, copyButton, Markdown, Prose } = streamll;

const NEAR = 40; // pixels from the end of a text within which it is followed

class FieldBox {
  constructor(label, extra = "") {
    this.row = element("div", `field ${extra}`);
    this.row.dataset.field = label;
    this.text = element("div", "text");
    this.tools = element("span", "tools");
    this.row.append(element("span", "label", label), this.tools, this.text);
    this.tools.append(copyButton(() => this.copied, label));
    this.follows = true;
    this.text.addEventListener("scroll", () => { this.follows = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < NEAR; }, { passive: true });
    this.prose = new Prose(this.text);
    this.value = null;
    this.version = null;
    this.raw = false;
  }
  get copied() {
    const { field } = this;
    if (!field.typed) return field.text;
    return typeof field.value === "string" ? field.value : JSON.stringify(field.value, null, 2) ?? "";
  }

  /** `open`: whether it is still being written. */
  draw(field, open) {
    this.field = field;
    this.row.classList.toggle("open", open);
    this.row.classList.toggle("corrected", field.corrected);
    this.row.classList.toggle("cut", field.done && !field.complete);
    if (field.typed) this.typed(field, open); else this.plain(field);
    if (open && this.follows) this.text.scrollTop = this.text.scrollHeight;
  }

  plain(field) {
    this.prose.show(field);
    if (!this.prose.rich) return;
    if (!this.source) {
      this.source = this.button("source", "Source", () => Markdown.toggle());
      this.source.title = "All texts as they were written, or as what their Markdown means (M)";
    }
    this.source.setAttribute("aria-pressed", String(!Markdown.wanted));
  }

  /** A value instead of its raw text; a button shows it as JSON. */
  typed(field, open) {
    if (!this.value) {
      this.row.classList.add("typed");
      this.source?.remove();
      this.text.classList.remove("md");
      this.show();
      this.json = this.button("json", "JSON", () => {
        this.raw = !this.raw;
        this.show();
        this.typed(this.field, false);
      });
      this.json.setAttribute("aria-label", `${field.name} as JSON`);
    }
    const structured = field.value !== null && typeof field.value === "object";
    this.json.hidden = !structured;
    this.json.setAttribute("aria-pressed", String(this.raw));
    this.row.classList.toggle("single", !structured);
    this.row.classList.toggle("raw", structured && this.raw);
    const version = `${field.version} ${open}`;
    if (this.version === version) return;
    this.version = version;
    if (this.raw) this.value.show(JSON.stringify(field.value, null, 2), open ? [] : null);
    else this.value.show(field.value === undefined ? "" : field.value, open ? field.growing : null);
  }
  show() {
    this.version = null;
    this.text.replaceChildren();
    this.value = new streamll.Shown(this.text);
  }
  button(kind, text, act) {
    const button = element("button", kind, text);
    button.type = "button";
    button.addEventListener("click", act);
    this.tools.append(button);
    return button;
  }
}

/** A field out of a value that is whole, as inputs and results are. */
function whole(name, value) {
  const text = typeof value === "string";
  return { name, typed: !text, text: text ? value : "", value, version: 0, growing: null, done: true, complete: true, corrected: false };
}

Object.assign(streamll, { FieldBox, whole });
})(window.streamll = window.streamll || {});
