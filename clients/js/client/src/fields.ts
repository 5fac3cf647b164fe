// The texts and values that the attempts of a call have written. Knows neither pages nor the network.
import type { FieldPartial, RunEvent, Shared } from "./events.js";
import { codePoints, upTo } from "./text.js";
import { Growing, type Key } from "./values.js";

/** One field, as one attempt of one call writes it. */
export class Field {
  name: string;
  parts: string[] = [];
  /** In code points. */
  length = 0;
  done = false;
  /** Whether it has ended before its attempt failed. */
  complete = true;
  corrected = false;
  cached = false;
  /** Whether it has a value besides its text. */
  typed = false;
  /** Whether the value is the whole one. */
  whole = false;
  /** The place in the value that is written now. */
  growing: readonly Key[] | null = null;
  /** Changes when text that has been shown is no longer right. */
  version = 0;
  /** Changes with everything. */
  changes = 0;
  private readonly grown = new Growing();

  constructor(name: string) {
    this.name = name;
  }

  get text(): string {
    if (this.parts.length > 1) this.parts = [this.parts.join("")];
    return this.parts[0] ?? "";
  }

  get value(): unknown {
    return this.grown.value;
  }

  /** Add text at its offset. What was there already, after a reconnection, is written anew. */
  put(token: string, offset = this.length): void {
    if (offset < this.length) this.replace(upTo(this.text, offset));
    this.parts.push(token);
    this.length += codePoints(token);
    this.changes++;
  }

  replace(text: string): void {
    this.parts = [text];
    this.length = codePoints(text);
    this.version++;
    this.changes++;
  }

  partial(event: Pick<FieldPartial, "value" | "state" | "pointer" | "append">): void {
    const place = event.pointer ?? [];
    this.typed = true;
    this.grown.apply(place, event.value, event.append === true);
    const complete = event.state === "complete";
    this.whole = complete && !place.length;
    this.growing = complete ? (place.length ? place.slice(0, -1) : null) : place;
    this.version++;
    this.changes++;
  }

  /** The value, which no later change reaches. */
  share(): unknown {
    return this.grown.share();
  }
}

/** What one attempt of a call has written, and one of its completions. */
export class Attempt {
  readonly number: number;
  readonly candidate: number;
  readonly fields = new Map<string, Field>();
  readonly thinking = new Field("thinking");
  readonly refusal = new Field("refusal");
  /** Native tool calls, as the model writes them. */
  readonly calls = new Map<number, Field>();
  readonly sources: string[] = [];
  /** Why it no longer counts, if it does not. */
  superseded: string | null = null;

  constructor(number: number, candidate: number) {
    this.number = number;
    this.candidate = candidate;
  }

  field(name: string): Field {
    let field = this.fields.get(name);
    if (!field) this.fields.set(name, (field = new Field(name)));
    return field;
  }
}

/** The attempts of one call, by `attempt.candidate`. */
export class Attempts extends Map<string, Attempt> {
  of(event: Shared): Attempt {
    const number = event.attempt ?? 0, candidate = event.candidate ?? 0;
    const key = `${number}.${candidate}`;
    let attempt = this.get(key);
    if (!attempt) this.set(key, (attempt = new Attempt(number, candidate)));
    return attempt;
  }

  /** Take an event of the call; whether it is one that writes, or voids what was written. */
  take(event: RunEvent): boolean {
    const write = WRITE[event.event_type] as ((event: RunEvent, attempt: Attempt) => void) | undefined;
    if (event.event_type === "lm.superseded") this.supersede(event, event.reason);
    else if (write) write(event, this.of(event));
    else return false;
    return true;
  }

  private supersede(event: Shared, reason: string): void {
    this.of({ ...event, candidate: 0 });
    for (const attempt of this.values()) {
      if (attempt.number === (event.attempt ?? 0)) attempt.superseded = reason;
    }
  }
}

type Write = { [K in RunEvent["event_type"]]?: (event: Extract<RunEvent, { event_type: K }>, attempt: Attempt) => void };

const told = (...facts: (string | undefined)[]) => facts.filter(Boolean).join(" · ");

const WRITE: Write = Object.assign(Object.create(null) as Write, {
  "token"(event, attempt) {
    const field = attempt.field(event.field);
    if (event.cached) field.cached = true;
    field.put(event.token, event.offset ?? 0);
  },
  "field.start"(event, attempt) {
    attempt.field(event.field).changes++;
  },
  "field.partial"(event, attempt) {
    attempt.field(event.field).partial(event);
  },
  "field.end"(event, attempt) {
    const field = attempt.field(event.field);
    field.done = true;
    field.complete = event.complete !== false;
    field.changes++;
  },
  "field.corrected"(event, attempt) {
    const field = attempt.field(event.field);
    field.replace(event.text);
    field.corrected = true;
    if (field.typed && event.value !== undefined && event.value !== null) field.partial({ value: event.value, state: "complete" });
  },
  "thinking"(event, attempt) {
    attempt.thinking.put(event.text);
  },
  "refusal"(event, attempt) {
    attempt.refusal.put(event.text);
  },
  "tool_call.delta"(event, attempt) {
    const index = event.index ?? 0;
    let call = attempt.calls.get(index);
    if (!call) attempt.calls.set(index, (call = new Field(event.name ?? "tool call")));
    if (event.name) call.name = event.name;
    call.put(event.arguments ?? "");
  },
  "citation"(event, attempt) {
    attempt.sources.push(told(event.title, event.url, event.text));
  },
  "reply.part"(event, attempt) {
    attempt.sources.push(told(event.kind, event.media_type, event.url));
  },
} satisfies Write);
