// What a run has come to: events in, an immutable snapshot out. Knows neither pages nor the network.
import { StreamllError } from "./errors.js";
import type { Question, RunError, RunEvent, Shared, Totals } from "./events.js";
import { Attempts, type Attempt, type Field } from "./fields.js";

/**
 * `starting`: the server has not answered yet. `unreachable`: it cannot be read on, `error` says why;
 * that says nothing of the run itself.
 */
export type RunStatus = "starting" | "running" | "ended" | "failed" | "cancelled" | "unreachable";

/** How the connection is. `idle`: nobody reads. `waiting`: until it comes back, `delay` milliseconds after `error`. */
export interface Connection {
  readonly state: "idle" | "connecting" | "open" | "waiting" | "closed";
  readonly delay?: number;
  /** Attempts that have failed one after the other. */
  readonly failures: number;
  readonly error?: unknown;
}

/** One field as one call writes it. It never changes: another takes its place when there is more. */
export interface FieldState {
  /** One and the same for all states of this field of this attempt of this call. */
  readonly key: string;
  readonly name: string;
  readonly predictor: string | null;
  readonly callId: string | null;
  readonly turn: number;
  readonly attempt: number;
  readonly text: string;
  /** Of a typed field, the value so far; undefined before anything of it is certain, and for plain text. */
  readonly value: unknown;
  /** Whether `value` is the whole one. */
  readonly valueComplete: boolean;
  readonly done: boolean;
  /** False if its attempt failed before the field had ended. */
  readonly complete: boolean;
  /** The program's value was not what had been streamed; `text` and `value` are right. */
  readonly corrected: boolean;
  /** The text came from DSPy's cache. */
  readonly cached: boolean;
}

export interface Snapshot {
  readonly id: string | null;
  readonly program: string | null;
  readonly status: RunStatus;
  readonly connection: Connection;
  /** In the order in which they began, without those of superseded attempts. */
  readonly fields: readonly FieldState[];
  /** The model's own thinking, of the latest call that has any. */
  readonly thinking: string;
  /** The program's latest status message. */
  readonly message: string | null;
  /** Those that wait for an answer. */
  readonly questions: readonly Question[];
  readonly error: Error | null;
  /** What the run has used; null before its end. */
  readonly usage: Totals | null;
  /** What the program returned, where the server's events carry outputs. */
  readonly outputs: Readonly<Record<string, unknown>> | null;
  /** Attempts that were superseded. */
  readonly retries: number;
  /** Events that were lost on the way (`stream.gap`). */
  readonly lost: number;
}

const ENDS: Record<string, RunStatus> = { "run.end": "ended", "run.error": "failed", "run.cancelled": "cancelled" };

export const isEnd = (status: RunStatus) => Object.values(ENDS).includes(status);

export const statusAfter = (event: Shared & { event_type: string }): RunStatus | null => (Object.hasOwn(ENDS, event.event_type) ? ENDS[event.event_type]! : null);

interface Shown {
  readonly field: Field;
  readonly attempt: Attempt;
  readonly about: Pick<FieldState, "key" | "name" | "predictor" | "callId" | "turn" | "attempt">;
  state: FieldState | null;
  at: number; // `field.changes` of that state
}

export class RunState {
  id: string | null = null;
  program: string | null = null;
  status: RunStatus = "running";
  message: string | null = null;
  questions: readonly Question[] = [];
  error: Error | null = null;
  usage: Totals | null = null;
  outputs: Readonly<Record<string, unknown>> | null = null;
  retries = 0;
  lost = 0;
  private thinking: Attempt | null = null;
  private readonly calls = new Map<string, Attempts>();
  private shown: Shown[] = [];
  private readonly known = new Set<Field>();

  take(event: RunEvent): void {
    const status = statusAfter(event);
    if (status) this.end(status, event, (event as RunError).message, event);
    else if (event.event_type === "run.start") this.program = event.program;
    else if (event.event_type === "status") this.message = event.message;
    else if (event.event_type === "question") this.questions = [...this.questions, event];
    else if (event.event_type === "answer") this.questions = this.questions.filter((one) => one.question_id !== event.question_id);
    else if (event.event_type === "stream.gap") this.lost += event.count;
    else this.write(event);
  }

  /** It has ended so; `usage` tells of it, and is its last event where that was read. */
  end(status: RunStatus, usage: any, message?: string, event?: any): void {
    this.status = status;
    this.usage = usage;
    this.questions = [];
    if (status === "ended") this.outputs = usage.outputs ?? null;
    if (status === "failed") this.error = new StreamllError(status, message ? `${usage.error_type}: ${message}` : usage.error_type, { event });
    if (status === "cancelled") this.error = new StreamllError(status, "the run was cancelled", { event });
  }

  private write(event: RunEvent): void {
    const call = event.call_id ?? "";
    let attempts = this.calls.get(call);
    if (!attempts) attempts = new Attempts();
    if (!attempts.take(event)) return;
    this.calls.set(call, attempts);
    const attempt = attempts.of(event);
    if (event.event_type === "thinking") this.thinking = attempt;
    if (event.event_type === "lm.superseded") {
      this.retries++;
      this.shown = this.shown.filter((one) => one.attempt.superseded === null);
    } else if ("field" in event && event.field !== undefined && !attempt.candidate && attempt.superseded === null) {
      this.show(event, attempt, attempt.field(event.field));
    }
  }

  private show(event: RunEvent, attempt: Attempt, field: Field): void {
    if (this.known.has(field)) return;
    this.known.add(field);
    const about = {
      key: `${event.call_id ?? ""}/${attempt.number}/${field.name}`,
      name: field.name,
      predictor: event.predictor ?? null,
      callId: event.call_id ?? null,
      turn: event.turn ?? 0,
      attempt: attempt.number,
    };
    this.shown.push({ field, attempt, about, state: null, at: -1 });
  }

  /** As it is now. What has not changed since the last one is the same object in both. */
  snapshot(connection: Connection): Snapshot {
    const { id, program, status, message, questions, error, usage, outputs, retries, lost } = this;
    const fields = this.shown.map(stateOf);
    const thinking = this.thinking && this.thinking.superseded === null ? this.thinking.thinking.text : "";
    return { id, program, status, connection, fields, thinking, message, questions, error, usage, outputs, retries, lost };
  }
}

function stateOf(shown: Shown): FieldState {
  const { field, about } = shown;
  if (shown.state && shown.at === field.changes) return shown.state;
  const { text, whole, done, complete, corrected, cached } = field;
  shown.at = field.changes;
  return (shown.state = { ...about, text, value: field.share(), valueComplete: whole, done, complete, corrected, cached });
}

/** Whether a field is meant by `name`, which may be `"predictor.name"`. */
export const isCalled = (field: FieldState, name: string) => field.name === name || `${field.predictor}.${field.name}` === name;
