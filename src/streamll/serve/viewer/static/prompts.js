// What a call was given: its inputs, and the messages that the model was sent. Folded, and made when they are
// opened; what the former call of the same predictor was given as well is folded once more.
(function (streamll) {
"use strict";
const { element, count, copyButton } = streamll;

const ALIKE = 200; // characters in common from which on they are folded

const characters = (text) => (text.length === 1 ? "1 character" : `${count(text.length)} characters`);

/** A `<details>` that makes what is in it when it is opened for the first time. */
function folded(className, summary, fill) {
  const box = element("details", className);
  box.append(element("summary", "", summary));
  box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) fill(box); });
  return box;
}

/** How much two texts have in common at their beginnings and ends, in whole lines. */
function common(text, before) {
  const most = Math.min(text.length, before.length);
  let head = 0;
  while (head < most && text[head] === before[head]) head++;
  if (head < text.length || head < before.length) head = text.lastIndexOf("\n", head - 1) + 1;
  let tail = 0;
  while (tail < most - head && text.at(-1 - tail) === before.at(-1 - tail)) tail++;
  if (tail) {
    const line = text.indexOf("\n", text.length - tail);
    tail = line < 0 ? 0 : text.length - line - 1;
  }
  return { head: head < ALIKE ? 0 : head, tail: tail < ALIKE ? 0 : tail };
}

/** Whether it is worth folding what they share. */
function alike(text, before) {
  const { head, tail } = common(text, before);
  return head + tail > 0;
}

/** A text into `into`; what it shares with the one before is folded. */
function shared(text, before, into) {
  const { head, tail } = before === undefined ? { head: 0, tail: 0 } : common(text, before);
  const same = (part) => folded("same", `${characters(part)} as before`, (box) => box.append(element("span", "", part)));
  if (head) into.append(same(text.slice(0, head)));
  if (head + tail < text.length) into.append(element("span", "", text.slice(head, text.length - tail)));
  if (tail) into.append(same(text.slice(text.length - tail)));
}

/** The messages of a request as roles and texts. */
function messagesOf(sent) {
  const list = Array.isArray(sent) ? sent : [sent];
  return list.map((message) => {
    if (message === null || typeof message !== "object") return { role: "user", text: String(message) };
    const { role, content, ...rest } = message;
    const parts = Array.isArray(content) ? content.map(partOf) : content == null ? [] : [typeof content === "string" ? content : JSON.stringify(content, null, 2)];
    if (Object.keys(rest).length) parts.push(JSON.stringify(rest, null, 2));
    return { role: typeof role === "string" ? role : "", text: parts.join("\n") };
  });
}

/** A part of a message. Of a picture or file, what it is and not its bytes. */
function partOf(part) {
  if (part && typeof part.text === "string") return part.text;
  return JSON.stringify(part, (_, value) => (typeof value === "string" && value.startsWith("data:") ? `${value.slice(0, 40)}… (${characters(value)})` : value), 2) ?? "";
}

/** The messages of a model call. */
function prompt(lm) {
  const messages = messagesOf(lm.messages), before = lm.former ? messagesOf(lm.former.messages) : [];
  let same = 0;
  while (same < messages.length && before[same]?.role === messages[same].role && before[same].text === messages[same].text) same++;
  const size = messages.reduce((sum, { text }) => sum + text.length, 0);
  const facts = [messages.length === 1 ? "1 message" : `${messages.length} messages`, `${count(size)} characters`];
  if (lm.former) facts.push(same === messages.length ? "the same as before" : same ? `${same} as before` : "");
  return folded("prompt", ["Prompt", ...facts].filter(Boolean).join(" · "), (box) => {
    messages.forEach((message, place) => box.append(messageBox(message, place < same ? message.text : before[place]?.role === message.role ? before[place].text : undefined)));
  });
}

function messageBox({ role, text }, before) {
  const box = element("div", "message"), head = element("div", "head"), body = element("div", "text");
  head.append(element("span", "role", role), copyButton(() => text, `the ${role} message`));
  shared(text, before, body);
  box.append(head, body);
  return box;
}

// --- inputs and outputs -----------------------------------------------------------------------------

const sameValue = (some, other) => some === other || JSON.stringify(some) === JSON.stringify(other);

/** Whether a value that was cut to a limit, or not, is this text. */
function isText(value, text) {
  const cut = /… \(\d+ characters\)$/.exec(value);
  return value === text || Boolean(cut) && text.startsWith(value.slice(0, cut.index));
}

/** The inputs that no call above has shown. */
function newInputs(node) {
  return Object.entries(node.detail.inputs).filter(([name, value]) => {
    for (let above = node.parent; above; above = above.parent) {
      const theirs = above.detail.inputs;
      if (theirs && Object.hasOwn(theirs, name) && sameValue(theirs[name], value)) return false;
    }
    return true;
  });
}

/** The outputs that are not a field of this call or of one below it. */
function newOutputs(node) {
  const { outputs } = node.detail;
  if (outputs === null || typeof outputs !== "object" || Array.isArray(outputs)) return [["output", outputs]];
  return Object.entries(outputs).filter(([name, value]) => !isShown(node, name, value));
}

function isShown(node, name, value) {
  for (const attempt of node.attempts.values()) {
    const field = attempt.superseded ? null : attempt.fields.get(name);
    if (field && (field.typed ? sameValue(field.value, value) : typeof value === "string" ? isText(value, field.text) : false)) return true;
  }
  return node.children.some((child) => child.detail && isShown(child, name, value));
}

Object.assign(streamll, { folded, shared, alike, prompt, newInputs, newOutputs });
})(window.streamll = window.streamll || {});
