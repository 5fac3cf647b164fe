// A form made from a program's inputs. What the server does not take is told at the field it is in.
(function (streamll) {
"use strict";
const { element, fieldAt, fieldFor, settled } = streamll;

class Form {
  /** `start(program, inputs)` starts a run; what it throws is told below the fields. */
  constructor(form, start) {
    this.programs = [];
    this.form = form;
    this.start = start;
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
    });
    form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
  }

  draw(programs) {
    this.programs = programs;
    this.select = null;
    this.form.replaceChildren();
    this.form.hidden = programs.length === 0;
    if (this.form.hidden) return;
    this.program = programs[0];
    this.fields = element("div");
    this.error = element("p", "problem");
    this.error.hidden = true;
    this.error.setAttribute("role", "alert");
    this.button = element("button", "primary", "Run");
    this.form.append(programs.length > 1 ? this.choice(programs) : element("h2", "", this.program.name), this.fields, this.error, this.button);
    this.drawInputs();
  }

  choice(programs) {
    const label = element("label", "", "Program"), select = element("select");
    this.select = select;
    for (const program of programs) select.append(new Option(program.name, program.name));
    select.addEventListener("change", () => this.choose(select.value));
    label.append(select);
    return label;
  }

  /** The name of the program that takes these inputs: the one that is called so, or the first that does; else undefined. */
  taking(name, inputs) {
    const given = Object.keys(inputs);
    const fit = this.programs.filter((program) => {
      const known = program.inputs.map((input) => input.name);
      return given.every((key) => known.includes(key)) && program.inputs.every((input) => !input.required || given.includes(input.name));
    });
    return (fit.find((program) => program.name === name) || fit[0])?.name;
  }

  choose(name) {
    this.program = this.programs.find((program) => program.name === name);
    this.error.hidden = true;
    this.drawInputs();
  }

  /** The program with these inputs, to be looked at and sent. What cannot be taken over is told at its field. */
  fill(name, inputs) {
    if (this.select) this.select.value = name;
    this.choose(name);
    this.inputs.forEach((field, n) => {
      const key = this.program.inputs[n].name;
      if (Object.hasOwn(inputs, key)) field.fill(inputs[key]);
    });
    this.first.focus();
  }

  drawInputs() {
    this.inputs = this.program.inputs.map((input) => {
      const schema = input.schema || {};
      const described = { ...schema, ...("default" in input ? { default: input.default } : {}) };
      return fieldFor(input.name, input.name, described, schema.$defs || {}, input.required, input.type);
    });
    this.fields.replaceChildren(...this.inputs.map((field) => field.node));
  }

  async send() {
    this.error.hidden = true;
    for (const field of everyField(this.inputs)) field.tell("");
    this.button.disabled = true;
    try {
      const names = this.program.inputs.map((input) => input.name);
      const values = Object.fromEntries(this.inputs.map((field, n) => [names[n], field.value()]));
      await this.start(this.program.name, await settled(values));
    } catch (problem) {
      this.tell(problem);
    } finally {
      this.button.disabled = false;
    }
  }

  /** What the server says is wrong, each at its field; below the fields what is at none. */
  tell(problem) {
    const rest = [];
    let first = null;
    for (const { place, message } of problem.problems || []) {
      const field = fieldAt(this.inputs, place.replace(/^inputs\./, ""));
      if (!field) { rest.push(`${place}: ${message}`); continue; }
      field.tell(message);
      first = first || field;
    }
    if (first) first.node.querySelector("input, textarea, select, button")?.focus();
    this.error.textContent = problem.problems ? rest.join("; ") : problem.message;
    this.error.hidden = !this.error.textContent;
  }

  /** Where typing begins; null where there is nothing to start. */
  get first() { return this.form.hidden ? null : this.form.querySelector("textarea, input, button.primary"); }
}

function everyField(fields) {
  return fields.flatMap((field) => [field, ...(field.inside ? everyField(field.inside()) : [])]);
}

streamll.Form = Form;
})(window.streamll = window.streamll || {});
