// A typed field while it is written: a list of objects as a table, others as lists and names with
// values. What is shown is kept and changed in place. Whatever a model says becomes text, nothing else.
(function (streamll) {
"use strict";
const { element } = streamll;

const MOST = 500; // elements of a list that are drawn: its last ones
const COLUMNS = 8;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isLeaf = (value) => value === null || typeof value !== "object";
const same = (some, others) => some.length === others.length && some.every((one, index) => one === others[index]);

/** The way on from here to where the value grows: null where it does not lead through `key`. */
const beyond = (place, key) => (place && place.length && String(place[0]) === String(key) ? place.slice(1) : null);

function columnsOf(rows) {
  return [...new Set(rows.flatMap((row) => Object.keys(row)))];
}

function isTable(rows) {
  return rows.length > 0 && rows.every((row) => isObject(row) && Object.values(row).every(isLeaf)) && columnsOf(rows).length <= COLUMNS;
}

function kindOf(value) {
  if (Array.isArray(value)) return isTable(value.slice(-MOST)) ? Table : List;
  return isObject(value) ? Names : Leaf;
}

/** One value in a box of its own. `growing`: the place in it that grows, as keys; null if none does. */
class Shown {
  constructor(box) {
    this.box = box;
    this.inside = null;
  }
  show(value, growing = null) {
    const Kind = kindOf(value);
    if (!(this.inside instanceof Kind)) {
      this.box.replaceChildren();
      this.inside = new Kind(this.box);
    }
    this.inside.show(value, growing);
    this.box.classList.toggle("now", growing !== null && growing.length === 0);
  }
}

class Leaf {
  constructor(box) { this.box = box; }
  show(value) {
    const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
    this.box.dataset.type = value === null ? "null" : typeof value;
    if (this.box.textContent !== text) this.box.textContent = text;
  }
}

/** What lists and tables have in common: elements in order, the last `MOST` of them. */
class Elements {
  constructor(box, holder) {
    this.note = element("p", "earlier");
    this.note.hidden = true;
    this.parts = [];
    this.from = 0;
    box.append(this.note, holder);
    delete box.dataset.type;
  }
  /** The elements that are drawn. Those that are no more go at the top; the others stay as they are. */
  latest(value, holder) {
    const from = Math.max(0, value.length - MOST);
    const gone = from < this.from ? this.parts.length : Math.min(from - this.from, this.parts.length);
    for (let i = 0; i < gone; i++) holder.firstChild.remove();
    this.parts.splice(0, gone);
    this.from = from;
    this.note.hidden = from === 0;
    if (from) this.note.textContent = `${from} earlier elements: see JSON`;
    return value.slice(from);
  }
  /** As many parts as there are elements. */
  fit(length, holder, make) {
    for (; this.parts.length > length; this.parts.pop()) holder.lastChild.remove();
    while (this.parts.length < length) this.parts.push(make());
  }
}

class List extends Elements {
  constructor(box) {
    const holder = element("ol", "list");
    super(box, holder);
    this.holder = holder;
  }
  show(value, growing) {
    const latest = this.latest(value, this.holder);
    this.holder.classList.toggle("nested", !value.every(isLeaf));
    this.holder.classList.toggle("empty", value.length === 0);
    this.fit(latest.length, this.holder, () => new Shown(this.holder.appendChild(element("li"))));
    latest.forEach((one, index) => this.parts[index].show(one, beyond(growing, this.from + index)));
  }
}

class Table extends Elements {
  constructor(box) {
    const holder = element("table");
    super(box, holder);
    this.head = holder.createTHead().insertRow();
    this.body = holder.createTBody();
    this.columns = [];
  }
  show(value, growing) {
    const latest = this.latest(value, this.body), columns = columnsOf(latest);
    if (!same(columns, this.columns)) this.begin(columns);
    this.fit(latest.length, this.body, () => this.row());
    latest.forEach((row, index) => {
      const way = beyond(growing, this.from + index);
      const next = way && way.length === 0 ? columns.find((name) => !Object.hasOwn(row, name)) : null; // what comes
      columns.forEach((name, column) => {
        const cell = this.parts[index][column], come = Object.hasOwn(row, name);
        cell.box.classList.toggle("pending", !come);
        cell.show(come ? row[name] : name === next ? "" : "·", name === next ? [] : come ? beyond(way, name) : null);
      });
    });
  }
  begin(columns) {
    this.columns = columns;
    this.parts = [];
    this.body.replaceChildren();
    this.head.replaceChildren(...columns.map((name) => Object.assign(element("th", "", name), { scope: "col" })));
  }
  row() {
    const line = this.body.insertRow();
    return this.columns.map((name) => {
      const cell = line.insertCell();
      cell.dataset.name = name;
      return new Shown(cell);
    });
  }
}

class Names {
  constructor(box) {
    this.holder = element("dl", "names");
    this.parts = new Map();
    box.append(this.holder);
    delete box.dataset.type;
  }
  show(value, growing) {
    const names = Object.keys(value);
    if (!same([...this.parts.keys()], names.slice(0, this.parts.size))) {
      this.parts.clear();
      this.holder.replaceChildren();
    }
    this.holder.classList.toggle("empty", names.length === 0);
    for (const name of names) {
      if (!this.parts.has(name)) this.parts.set(name, this.begin(name));
      this.parts.get(name).show(value[name], beyond(growing, name));
    }
  }
  begin(name) {
    const told = element("dd");
    this.holder.append(element("dt", "", name), told);
    return new Shown(told);
  }
}

streamll.Shown = Shown;
})(window.streamll = window.streamll || {});
