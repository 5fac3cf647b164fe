// What a run asks a person: the question where it was asked, a form made from its JSON Schema, and what came of it.
(function (streamll) {
"use strict";
const { element, set, fieldFor, fieldAt, settled } = streamll;

const FEW = 6; // choices that are buttons rather than a list
const LABEL = 60; // characters of a choice that is a button
const OUTCOMES = { lapsed: "Nobody answered in time", withdrawn: "Withdrawn" };
const FORBIDDEN = "You may read this run, but not answer it.";

class Question {
  /** `thing`: the model's. `answer(body)` sends one; null where nobody can. `barred`: what the run's page knows of this token. */
  constructor(thing, answer, barred) {
    Object.assign(this, { thing, answer, barred, fields: [] });
    const { question } = thing;
    this.box = element("section", "question");
    this.box.id = `question-${question.question_id}`;
    this.box.setAttribute("aria-label", "Question");
    const head = element("header");
    this.state = element("span", "facts");
    this.state.setAttribute("role", "status");
    this.left = element("span", "facts left");
    this.left.setAttribute("role", "timer");
    head.append(element("span", "chip", question.tool ? "approval" : "question"), element("h3", "", question.tool || ""), this.left, this.state);
    this.text = element("p", "asked", question.text);
    this.box.append(head, this.text);
    if (question.arguments && Object.keys(question.arguments).length) {
      this.given = new streamll.FieldBox("arguments", "");
      this.given.draw(streamll.whole("arguments", question.arguments), false);
      this.box.append(this.given.row);
    }
    this.form = answer ? this.made() : null;
    this.draw();
  }

  draw() {
    const { question, answer } = this.thing, to = question.to ? ` from ${question.to}` : "";
    this.box.dataset.status = answer ? answer.outcome : "open";
    set(this.state, answer ? "" : `waits for an answer${to}`);
    if (answer && !this.over) {
      this.over = true;
      const had = this.form?.contains(document.activeElement);
      this.form?.remove();
      const by = answer.by ? `by ${answer.by}` : "";
      this.result = element("p", "outcome", [OUTCOMES[answer.outcome] || "Answered", by, `after ${streamll.seconds(answer.waited)}`].filter(Boolean).join(" "));
      this.result.tabIndex = -1;
      this.result.setAttribute("role", "status");
      this.box.append(this.result);
      if (answer.value !== null && answer.value !== undefined) {
        const value = new streamll.FieldBox("answer", "");
        value.draw(streamll.whole("answer", answer.value), false);
        this.box.append(value.row);
      }
      if (had) this.result.focus({ preventScroll: true }); // whoever was typing hears why that has ended
    }
    this.tick();
  }

  /** How long it is still waited for, by this machine's clock. */
  tick() {
    const at = this.thing.question.lapses_at, left = at == null || this.thing.answer ? null : Math.max(0, Math.ceil(at - Date.now() / 1000));
    set(this.left, left === null ? "" : left === 0 ? "lapses now" : `lapses in ${span(left)}`);
    if (this.barred.run && this.form) { this.form.remove(); this.form = null; this.say(FORBIDDEN); }
  }

  say(text) {
    if (!this.note) {
      this.note = element("p", "hint");
      this.box.append(this.note);
    }
    set(this.note, text);
  }

  // --- the form -------------------------------------------------------------------------------------------

  made() {
    const { question } = this.thing, form = element("form", "new"), schema = question.schema || {};
    form.autocomplete = "off";
    form.setAttribute("aria-label", "Answer");
    this.inputs = element("div");
    this.error = element("p", "problem");
    this.error.hidden = true;
    this.error.setAttribute("role", "alert");
    this.buttons = element("div", "buttons");
    form.append(this.inputs, this.error, this.buttons);
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
    });
    form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    if (question.tool) this.approval(question, schema); else this.free(question, schema);
    this.box.append(form);
    return form;
  }

  button(label, act, className = "") {
    const button = element("button", className, label);
    button.type = act ? "button" : "submit";
    if (act) button.addEventListener("click", act);
    this.buttons.append(button);
    return button;
  }

  free(question, schema) {
    const choices = choicesOf(schema);
    if (choices) for (const [label, value] of choices) this.button(label, () => this.send({ value }));
    else {
      const field = fieldFor(`answer-${question.question_id}`, "answer", schema, schema.$defs || {}, true);
      this.fields = [field];
      this.inputs.append(field.node);
      this.value = async () => ({ value: completed((await settled(field.value())) ?? null, schema, schema.$defs || {}) });
      this.button("Answer", null, "primary");
    }
    this.button("Decline", () => this.send({ decline: true }), "quiet");
  }

  approval(question, schema) {
    const edited = schema.properties?.arguments || {}, given = question.arguments, definitions = schema.$defs || {}, id = question.question_id;
    const reason = fieldFor(`reason-${id}`, "reason", { type: "string", description: "optional; the model is told" }, {}, false, "str");
    let own = null;
    this.value = async () => {
      if (!own) return { value: true };
      const changes = {};
      for (const [field, before] of own) {
        const now = await settled(field.value());
        if (JSON.stringify(now) === before) continue;
        const problems = [{ place: `arguments.${field.key}`, message: "Give a value" }]; // left out, it would be the old one
        if (now === undefined) throw new streamll.StreamllError("wrong", "", { problems });
        changes[field.key] = now;
      }
      return { value: Object.keys(changes).length ? { allow: true, arguments: changes } : true };
    };
    this.button("Allow", null, "primary");
    this.button("Refuse", () => this.send({ value: reason.value() ? { allow: false, reason: reason.value() } : false }), "danger");
    if (given && edited.properties) {
      const edit = this.button("Edit the arguments", async () => {
        const fields = Object.entries(edited.properties).map(([key, each]) => fieldFor(`${key}-${id}`, key, each, definitions, false));
        for (const field of fields) field.fill(given[field.key], true);
        own = await Promise.all(fields.map(async (field) => [field, JSON.stringify(await settled(field.value()))]));
        const group = element("fieldset");
        group.append(element("legend", "", "arguments"), ...fields.map((field) => field.node));
        this.inputs.prepend(group);
        this.fields = [{ key: "arguments", node: group, tell: (message) => this.fail(message), inside: () => fields }, reason];
        edit.remove();
        group.querySelector("input, textarea, select, button")?.focus();
      }, "quiet");
    }
    this.button("Decline", () => this.send({ decline: true }), "quiet");
    this.inputs.append(reason.node);
    this.fields = [reason];
  }

  async submit() {
    if (this.busy || !this.value) return;
    try {
      await this.send(await this.value());
    } catch (problem) {
      this.refused(problem);
    }
  }

  async send(said) {
    if (this.busy) return;
    this.busy = true;
    this.fail("");
    for (const field of all(this.fields)) field.tell("");
    for (const button of this.buttons.children) button.disabled = true;
    try {
      const told = await this.answer({ question_id: this.thing.question.question_id, ...said });
      if (told.status === "sent") this.say("Sent. The process that runs the program has not taken it yet.");
    } catch (problem) {
      this.refused(problem);
    } finally {
      this.busy = false;
      for (const button of this.buttons.children) button.disabled = false;
    }
  }

  refused(problem) {
    if (problem.status === 403) {
      this.barred.run = true;
      this.tick();
    } else if (problem.problems) this.tell(problem.problems);
    else this.fail(problem.message);
  }

  /** Each problem at its field, the others below. */
  tell(problems) {
    const rest = [];
    let first = null;
    for (const { place, message } of problems) {
      const inside = this.thing.question.tool ? place.replace(/^answer\.?/, "") : place, field = fieldAt(this.fields, inside);
      if (!field) { rest.push(`${place}: ${message}`); continue; }
      field.tell(message);
      first = first || field;
    }
    this.fail(rest.join("; "));
    first?.node.querySelector("input, textarea, select, button")?.focus();
  }

  fail(message) {
    set(this.error, message);
    this.error.hidden = !message;
  }
}

const all = (fields) => fields.flatMap((field) => [field, ...(field.inside ? all(field.inside()) : [])]);

/** The buttons of a yes or no, and of a few short choices; null for all other answers. */
function choicesOf(schema) {
  if (schema.type === "boolean") return [["Yes", true], ["No", false]];
  const values = "const" in schema ? [schema.const] : schema.enum;
  if (!Array.isArray(values) || values.length > FEW) return null;
  const labels = values.map((value) => (typeof value === "string" ? value : JSON.stringify(value)));
  return labels.some((label) => label.length > LABEL || !label.trim()) ? null : labels.map((label, n) => [label, values[n]]);
}

/** With `null` for what is required, may be null, and was left empty. */
function completed(value, schema, definitions) {
  schema = schema.$ref ? { ...definitions[schema.$ref.split("/").pop()], ...schema } : schema;
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  const whole = {};
  for (const [key, each] of Object.entries(schema.properties || {})) {
    if (Object.hasOwn(value, key)) whole[key] = completed(value[key], each, definitions);
    else if ((schema.required || []).includes(key) && each.anyOf?.some((one) => one.type === "null")) whole[key] = null;
  }
  return { ...value, ...whole };
}

function span(seconds) {
  const two = (value) => String(value).padStart(2, "0");
  if (seconds >= 48 * 3600) return `${Math.floor(seconds / 86400)} days`;
  const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

streamll.Question = Question;
})(window.streamll = window.streamll || {});
