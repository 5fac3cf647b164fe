// A form made from a program's signature. What is sent is what the server asked for, by type.
(function (streamll) {
"use strict";
const { element } = streamll;

const NUMBERS = { int: "1", float: "any" };

class Form {
  /** `start(program, inputs)` starts a run; what it throws is told below the fields. */
  constructor(form, start) {
    this.form = form;
    this.start = start;
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
    });
    form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
  }

  draw(programs) {
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
    for (const program of programs) select.append(new Option(program.name, program.name));
    select.addEventListener("change", () => {
      this.program = programs.find((program) => program.name === select.value);
      this.error.hidden = true;
      this.drawInputs();
    });
    label.append(select);
    return label;
  }

  drawInputs() {
    this.fields.replaceChildren(...this.program.inputs.map((input) => {
      const label = element("label", input.type === "bool" ? "tick" : ""), name = element("span", "", input.name);
      if (input.type !== "str") name.append(element("small", "", input.type));
      const entry = entryFor(input);
      entry.name = input.name;
      entry.required = input.required && input.type !== "bool";
      label.append(...(input.type === "bool" ? [entry, name] : [name, entry]));
      if (input.type === "bool" && input.description) label.title = input.description;
      return label;
    }));
  }

  inputs() {
    const inputs = {};
    for (const input of this.program.inputs) {
      const entry = this.fields.querySelector(`[name="${CSS.escape(input.name)}"]`);
      if (input.type === "bool") inputs[input.name] = entry.checked;
      else if (entry.value || input.required) inputs[input.name] = input.type === "str" ? entry.value : read(entry.value);
    }
    return inputs;
  }

  async send() {
    this.error.hidden = true;
    this.button.disabled = true;
    try {
      await this.start(this.program.name, this.inputs());
    } catch (problem) {
      this.error.textContent = problem.message;
      this.error.hidden = false;
    } finally {
      this.button.disabled = false;
    }
  }

  /** Where typing begins; null where there is nothing to start. */
  get first() { return this.form.hidden ? null : this.form.querySelector("textarea, input, button.primary"); }
}

function entryFor(input) {
  const entry = element(input.type === "bool" || NUMBERS[input.type] ? "input" : "textarea");
  if (input.type === "bool") { entry.type = "checkbox"; return entry; }
  if (NUMBERS[input.type]) { entry.type = "number"; entry.step = NUMBERS[input.type]; } else entry.rows = 2;
  entry.placeholder = input.description || (input.type === "list" ? '["…", "…"]' : input.type === "dict" ? '{"…": "…"}' : "");
  return entry;
}

function read(text) { try { return JSON.parse(text); } catch { return text; } }

streamll.Form = Form;
})(window.streamll = window.streamll || {});
