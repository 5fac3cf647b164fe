// Inputs of a form, made from JSON Schemas: each has a `node` and a `value()`, undefined if left out.
(function (streamll) {
"use strict";
const { element } = streamll;

/** The schema itself: without references and without `null`, which is said to be optional. */
function resolved(schema, definitions) {
  let optional = false;
  for (;;) {
    if (schema.$ref) {
      const { $ref, ...rest } = schema;
      schema = { ...definitions[$ref.split("/").pop()], ...rest };
    } else if (schema.anyOf && schema.anyOf.some((each) => each.type === "null")) {
      const { anyOf, ...rest } = schema;
      const others = anyOf.filter((each) => each.type !== "null");
      optional = true;
      schema = others.length === 1 ? { ...rest, ...others[0] } : { ...rest, anyOf: others };
    } else return { schema, optional };
  }
}

const MEDIA = { Image: "image/*", Audio: "audio/*", File: "" };
const isMedia = (schema) => (schema.anyOf || []).some((each) => each.format === "data-url");

const CUT = /… \(\d+ characters\)$/; // what events carry of a long text ends so

/** One input. `place` is its name in what is sent: `to.street`, `tags[0]`. */
function fieldFor(place, name, given, definitions, required, kind = "") {
  const { schema, optional } = resolved(given.default === null ? { ...given, default: undefined } : given, definitions);
  const needed = required && !optional;
  const made = isMedia(schema) ? media(schema, needed)
    : schema.enum || "const" in schema ? choice(schema, needed, optional)
    : schema.type === "boolean" ? needed || !optional && schema.default !== undefined ? tick(schema) : choice({ ...schema, enum: [true, false] }, false, optional)
    : schema.type === "object" && schema.properties ? group(place, name, schema, definitions, needed)
    : schema.type === "array" && schema.items ? rows(place, name, schema, definitions, needed)
    : schema.type === "integer" || schema.type === "number" ? number(schema, needed)
    : text(schema, needed, kind);
  const problem = element("p", "problem");
  problem.hidden = true;
  problem.id = `problem-${place}`;
  const tell = (message) => {
    problem.textContent = message;
    problem.hidden = !message;
    if (made.entry) made.entry.setAttribute("aria-invalid", String(Boolean(message)));
  };
  let empty; // what it means where nothing is entered; undefined: it is left out
  const value = () => { const entered = made.value(); return entered === undefined ? empty : entered; };
  /** Take a value over, as events carry it. In what is `edited`, whatever is cleared is empty, and not left out. */
  const fill = (given, edited = false) => {
    if (given === undefined) return;
    const whole = made.put(given, edited);
    if (given === "" || (given === null && optional)) empty = given;
    else if (edited) empty = optional ? null : made.cleared;
    if (made.entry && (edited || empty !== undefined)) made.entry.placeholder = JSON.stringify(empty) ?? "";
    if (made.entry && empty !== undefined) made.entry.required = false;
    const same = made.inside && given !== null ? whole : JSON.stringify(value()) === JSON.stringify(given);
    if (!made.inside && schema.type !== "number" && isLong(given)) tell("Check the numbers: a page keeps no more than 15 digits.");
    else if (!same) tell("Give this once more: the run's events do not have it as it was.");
    else if (typeof given === "string" && CUT.test(given)) tell("The run's events have only the beginning of this.");
  };
  const field = { ...made, key: name, tell, fill, value };
  if (!made.entry) return { ...field, node: around("div", made.node, problem) };
  made.entry.name = place;
  made.entry.setAttribute("aria-describedby", problem.id);
  const label = element("label", made.ticked ? "tick" : ""), title = element("span", "", name);
  if (kind && kind !== "str") title.append(element("small", "", kind));
  label.append(...(made.ticked ? [made.node, title] : [title, made.node]));
  if (schema.description && (made.ticked || schema.enum)) label.title = schema.description;
  return { ...field, node: around("div", label, problem) };
}

function around(tag, ...children) {
  const made = element(tag, "entry");
  made.append(...children);
  return made;
}

function text(schema, needed, kind) {
  const entry = element(schema.format === "date" ? "input" : "textarea");
  if (schema.format === "date") entry.type = "date"; else entry.rows = 2;
  const isText = schema.type === "string" || kind === "str";
  const example = schema.type === "array" ? '["…", "…"]' : schema.type === "object" ? '{"…": "…"}' : "";
  entry.placeholder = typeof schema.default === "string" ? schema.default : schema.description || example;
  entry.required = needed;
  const put = (value) => { entry.value = typeof value === "string" && (isText || read(value) === value) ? value : isText && value === null ? "" : JSON.stringify(value); };
  return { entry, node: entry, put, cleared: isText ? "" : undefined, value: () => (entry.value === "" ? undefined : isText ? entry.value : read(entry.value)) };
}

/** Whether there are whole numbers in it that are others in JavaScript, or may be. */
const isLong = (value) => (value !== null && typeof value === "object" ? Object.values(value).some(isLong) : Number.isInteger(value) && !Number.isSafeInteger(value));

function read(typed) { try { return JSON.parse(typed); } catch { return typed; } }

function number(schema, needed) {
  const entry = element("input");
  entry.type = "number";
  entry.step = schema.type === "integer" ? "1" : "any";
  for (const [bound, key] of [["min", "minimum"], ["max", "maximum"]]) if (key in schema) entry[bound] = schema[key];
  entry.placeholder = schema.default ?? schema.description ?? "";
  entry.required = needed;
  const typed = () => (schema.type === "integer" && isLong(Number(entry.value)) ? entry.value : Number(entry.value)); // the server reads digits as well
  return { entry, node: entry, put: (value) => { entry.value = value; }, value: () => (entry.value === "" ? undefined : typed()) };
}

function tick(schema) {
  const entry = element("input");
  entry.type = "checkbox";
  entry.checked = schema.default === true;
  return { entry, node: entry, ticked: true, put: (value) => { entry.checked = value === true; }, value: () => entry.checked };
}

function choice(schema, needed, optional) {
  const entry = element("select"), choices = [...(schema.enum || [schema.const]), ...(optional && schema.default !== undefined ? [null] : [])];
  if (schema.default === undefined) entry.append(new Option(needed ? "choose…" : "–", ""));
  entry.required = needed;
  choices.forEach((each, number) => {
    const chosen = each === schema.default;
    entry.append(new Option(typeof each === "string" ? each : JSON.stringify(each), String(number), chosen, chosen));
  });
  const put = (value) => {
    const number = choices.findIndex((each) => JSON.stringify(each) === JSON.stringify(value));
    entry.value = number < 0 ? "" : String(number);
  };
  return { entry, node: entry, put, value: () => (entry.value === "" ? undefined : choices[Number(entry.value)]) };
}

/** A file of the user's, or an address of an image: a data URL, or the address. */
function media(schema, needed) {
  const node = element("span", "media"), entry = element("input"), address = element("input");
  let held;
  entry.type = "file";
  entry.accept = MEDIA[schema.title] ?? "";
  address.type = "url";
  address.placeholder = "or its address";
  address.setAttribute("aria-label", "or its address");
  const check = () => { entry.required = needed && !address.value; };
  entry.addEventListener("change", () => {
    held = undefined;
    const [file] = entry.files;
    if (!file) return;
    held = new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(schema.title === "File" ? { file_data: reader.result, filename: file.name } : reader.result);
      reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
      reader.readAsDataURL(file);
    });
    held.catch(() => {}); // told when the form is sent
  });
  address.addEventListener("input", check);
  check();
  node.append(entry, ...(schema.title === "Image" ? [address] : []));
  const put = (value) => {
    if (/^https?:/.test(value) && schema.title === "Image") address.value = value;
    else if (/^data:/.test(value) && !CUT.test(value) || value?.file_data) held = value;
    else return;
    entry.required = false;
  };
  return { entry, node, put, value: () => address.value || held };
}

/** An object: a field for each of its properties. An optional one is opened by a button. */
function group(place, name, schema, definitions, needed) {
  const node = element("fieldset"), legend = element("legend", "", name);
  node.append(legend);
  let fields = null;
  const open = () => {
    fields = Object.entries(schema.properties).map(([key, each]) =>
      fieldFor(`${place}.${key}`, key, each, definitions, (schema.required || []).includes(key)));
    node.append(...fields.map((field) => field.node));
  };
  const close = () => { for (const field of fields) field.node.remove(); fields = null; };
  const button = element("button", "quiet", "Add");
  const turn = () => {
    if (fields) close(); else open();
    button.textContent = fields ? "Remove" : "Add";
  };
  button.type = "button";
  button.addEventListener("click", turn);
  if (needed) open(); else legend.append(button);
  const put = (value, edited) => {
    if (value === null || typeof value !== "object") return false;
    if (!fields) turn();
    for (const field of fields) if (Object.hasOwn(value, field.key)) field.fill(value[field.key], edited);
    return Object.keys(value).every((key) => Object.hasOwn(schema.properties, key));
  };
  return {
    node,
    put,
    inside: () => fields || [],
    value: () => fields && Object.fromEntries(fields.map((field, n) => [Object.keys(schema.properties)[n], field.value()])) || undefined,
  };
}

/** A list: as many fields as are added. */
function rows(place, name, schema, definitions, needed) {
  const node = element("fieldset"), legend = element("legend", "", name), button = element("button", "quiet", "Add");
  let fields = [], last = 0, given = needed; // whether no row is an empty list
  button.type = "button";
  const add = () => {
    const field = fieldFor(`${place}[${last++}]`, `${name} ${last}`, schema.items, definitions, true);
    const remove = element("button", "quiet", "Remove");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove ${name} ${last}`);
    remove.addEventListener("click", () => { fields = fields.filter((each) => each !== field); field.node.remove(); });
    field.node.append(remove);
    fields.push(field);
    node.append(field.node);
    return field;
  };
  button.addEventListener("click", () => { add().node.querySelector("input, textarea, select")?.focus(); });
  const put = (value, edited) => {
    if (!Array.isArray(value)) return false;
    given = true;
    for (const field of fields) field.node.remove();
    fields = [];
    for (const each of value) add().fill(each, edited);
    return true;
  };
  legend.append(button);
  node.append(legend);
  const inside = () => fields.map((field, key) => ({ ...field, key })); // one may have been removed
  return { node, inside, put, value: () => (fields.length || given ? fields.map((field) => field.value()) : undefined) };
}

/** The value with everything in it, files included, and without what was left out. */
async function settled(value) {
  value = await value;
  if (Array.isArray(value)) return Promise.all(value.map(async (each) => (await settled(each)) ?? null));
  if (value === null || typeof value !== "object") return value;
  const pairs = await Promise.all(Object.entries(value).map(async ([key, each]) => [key, await settled(each)]));
  return Object.fromEntries(pairs.filter(([, each]) => each !== undefined));
}

/** The field at a place such as `items[2].price`, or the one that the place is in. */
function fieldAt(fields, place) {
  const [step, ...rest] = Array.isArray(place) ? place : place.match(/[^.[\]]+/g) || [];
  const field = fields.find((each) => String(each.key) === step);
  return field ? (rest.length && field.inside && fieldAt(field.inside(), rest)) || field : null;
}

Object.assign(streamll, { fieldFor, fieldAt, settled });
})(window.streamll = window.streamll || {});
