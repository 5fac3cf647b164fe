// The events of a run as they are on the wire. Written by scripts/write_client_types.py: do not edit.

/** What all events share. Keys that have their default (`turn` 0, `path` empty, …) are left out. */
export interface Shared {
  readonly v?: number;
  /** Its number in the run, from 0; missing in what is in no log (`stream.gap`, some `status`). */
  readonly seq?: number;
  /** Seconds since the epoch. */
  readonly timestamp: number;
  readonly context?: Readonly<Record<string, unknown>>;
  readonly run_id?: string;
  readonly path?: readonly string[];
  readonly predictor?: string;
  readonly call_id?: string;
  readonly parent_call_id?: string;
  readonly turn?: number;
  readonly attempt?: number;
  readonly candidate?: number;
}

/**
 * What `model` has used as far as it was reported.
 * `unreported` is the number of requests of which the provider has not, or not fully, said what they used:
 * what is counted here is without these, or without the part of them that is not known.
 */
export interface ModelUsage {
  readonly model: string;
  readonly prompt_tokens?: number;
  readonly completion_tokens?: number;
  readonly cache_read_tokens?: number;
  readonly cache_write_tokens?: number;
  readonly reasoning_tokens?: number;
  readonly cost?: number;
  readonly unreported?: number;
}

/**
 * What a run used, superseded attempts included; the base of the three last events.
 * `time_to_first_token` is the reader's: from the run's start to the first token of any field, with all that
 * the program did before. A count of tokens is missing where any part of it is not known; what was reported
 * all the same is in `usage`, by model. `waited` are the seconds of `duration` in which the run had asked a
 * person something.
 */
export interface Totals {
  readonly duration?: number;
  readonly time_to_first_token?: number;
  readonly lm_calls?: number;
  readonly prompt_tokens?: number;
  readonly completion_tokens?: number;
  readonly cost?: number;
  readonly cache_read_tokens?: number;
  readonly cache_write_tokens?: number;
  readonly reasoning_tokens?: number;
  readonly usage?: readonly ModelUsage[];
  readonly waited?: number;
}

/** The outermost captured call of `program` begins. */
export interface RunStart extends Shared {
  readonly event_type: "run.start";
  readonly program: string;
  readonly inputs?: Readonly<Record<string, unknown>>;
}

/** The run has returned. */
export interface RunEnd extends Shared, Totals {
  readonly event_type: "run.end";
  readonly outputs?: Readonly<Record<string, unknown>>;
}

/** `partial` is the text of unfinished calls streamed so far, by `predictor.field`. */
export interface RunError extends Shared, Totals {
  readonly event_type: "run.error";
  readonly error_type: string;
  readonly message: string;
  readonly partial?: Readonly<Record<string, string>>;
}

/** The run's reader left before the end; `partial` as in `RunError`. */
export interface RunCancelled extends Shared, Totals {
  readonly event_type: "run.cancelled";
  readonly partial?: Readonly<Record<string, string>>;
}

/** The module `name` is called; it is of kind `"agent"` if it has tools to call. */
export interface ModuleStart extends Shared {
  readonly event_type: "module.start";
  readonly name: string;
  readonly inputs?: Readonly<Record<string, unknown>>;
  readonly kind?: string;
}

/** The module has returned, after `duration` seconds. */
export interface ModuleEnd extends Shared {
  readonly event_type: "module.end";
  readonly name: string;
  readonly duration: number;
  readonly outputs?: Readonly<Record<string, unknown>>;
}

/** The module has raised, after `duration` seconds. */
export interface ModuleError extends Shared {
  readonly event_type: "module.error";
  readonly name: string;
  readonly duration: number;
  readonly error_type: string;
  readonly message: string;
}

/**
 * A tool is called; of kind `"interpreter"`, code is run that the model wrote.
 * `ProgramOfThought`, `CodeAct` and `RLM` run such code; it is `arguments["code"]`.
 */
export interface ToolStart extends Shared {
  readonly event_type: "tool.start";
  readonly name: string;
  readonly kind?: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

/** The tool has returned, after `duration` seconds. */
export interface ToolEnd extends Shared {
  readonly event_type: "tool.end";
  readonly name: string;
  readonly kind?: string;
  readonly duration: number;
  readonly result?: unknown;
}

/** The tool has raised, after `duration` seconds. */
export interface ToolError extends Shared {
  readonly event_type: "tool.error";
  readonly name: string;
  readonly kind?: string;
  readonly duration: number;
  readonly error_type: string;
  readonly message: string;
}

/** A request is sent to the language model `model`. */
export interface LMStart extends Shared {
  readonly event_type: "lm.start";
  readonly model: string;
  readonly messages?: unknown;
}

/**
 * `error_type` is set when the call failed for good.
 * Tokens are those of all its requests, superseded ones included. `usage` has them by model where the fields
 * cannot say it all: several models, or a request of which they are not known. `response_model` and
 * `response_id` are the reply's, as the provider names them.
 * Times are those of the last attempt: `time_to_first_token` and `time_to_first_chunk` begin when its request
 * leaves, and end with the reply's first text, and with its first chunk of any kind (thinking, a tool call,
 * text). `time_per_output_chunk` is the mean from one of the `chunks` to the next; `chunk_gaps` are these
 * pauses as pairs of seconds and number, of similar length together, the shortest first. A reply that came
 * whole has no chunks.
 */
export interface LMEnd extends Shared {
  readonly event_type: "lm.end";
  readonly model: string;
  readonly duration: number;
  readonly prompt_tokens?: number;
  readonly completion_tokens?: number;
  readonly cost?: number;
  readonly cached?: boolean;
  readonly streamed?: boolean;
  readonly time_to_first_token?: number;
  readonly finish_reason?: string;
  readonly error_type?: string;
  readonly chunks?: number;
  readonly time_to_first_chunk?: number;
  readonly time_per_output_chunk?: number;
  readonly chunk_gaps?: readonly (readonly [number, number])[];
  readonly cache_read_tokens?: number;
  readonly cache_write_tokens?: number;
  readonly reasoning_tokens?: number;
  readonly usage?: readonly ModelUsage[];
  readonly response_model?: string;
  readonly response_id?: string;
}

/**
 * Attempt `attempt` of this predictor call no longer counts: drop its text.
 * `reason` is the error type that ended it, `"fallback"` for the Chat→JSON fallback, or `"asked again"` for
 * an adapter that makes a further call for the same fields. `next_model` is set where the next attempt is
 * another model's, one of a `StreamConfig`'s `fallbacks`.
 */
export interface LMSuperseded extends Shared {
  readonly event_type: "lm.superseded";
  readonly reason: string;
  readonly next_model?: string;
}

/**
 * A request waits: `"connection"` (pool exhausted), `"retry"` or `"limit"` (rate limit).
 * Or, for `"fallback"`, it has failed for good and goes to `model` instead, at once.
 */
export interface LMWaiting extends Shared {
  readonly event_type: "lm.waiting";
  readonly reason: string;
  readonly delay?: number;
  readonly model?: string;
}

/** `dspy.Evaluate` begins to measure the program `name` by `metric` on `total` examples. */
export interface EvaluateStart extends Shared {
  readonly event_type: "evaluate.start";
  readonly name: string;
  readonly metric: string;
  readonly total: number;
}

/**
 * Example `index` of the evaluation is done, the `done`-th of `total`.
 * `score` is what the metric returned for it as a number, `mean` the percentage so far, as
 * `EvaluateEnd.score` will be. An example that failed has an `error_type` and counts with Evaluate's
 * `failure_score`.
 */
export interface EvaluateExample extends Shared {
  readonly event_type: "evaluate.example";
  readonly index: number;
  readonly done: number;
  readonly total: number;
  readonly score?: number;
  readonly mean?: number;
  readonly duration?: number;
  readonly error_type?: string;
  readonly message?: string;
  readonly inputs?: Readonly<Record<string, unknown>>;
  readonly outputs?: Readonly<Record<string, unknown>>;
}

/** It has returned `score` (a percentage), or raised; of the examples `done`, `failed` failed. */
export interface EvaluateEnd extends Shared {
  readonly event_type: "evaluate.end";
  readonly name: string;
  readonly duration: number;
  readonly score?: number;
  readonly done?: number;
  readonly failed?: number;
  readonly error_type?: string;
  readonly message?: string;
}

/** The `optimizer` begins to compile the program `name`, with `total` training examples. */
export interface CompileStart extends Shared {
  readonly event_type: "compile.start";
  readonly name: string;
  readonly optimizer: string;
  readonly total?: number;
}

/**
 * The optimizer has evaluated its candidate `index`, on `total` examples.
 * `best` is the best score so far, of candidate `best_index`. Scores of a few examples do not compare with
 * those of many: only candidates count that were evaluated on as many as any yet.
 */
export interface CompileCandidate extends Shared {
  readonly event_type: "compile.candidate";
  readonly index: number;
  readonly score: number;
  readonly total: number;
  readonly best: number;
  readonly best_index: number;
  readonly duration: number;
}

/** The optimizer has returned, or raised; `best` of its `candidates` is None if it had none. */
export interface CompileEnd extends Shared {
  readonly event_type: "compile.end";
  readonly name: string;
  readonly optimizer: string;
  readonly duration: number;
  readonly candidates?: number;
  readonly best?: number;
  readonly error_type?: string;
  readonly message?: string;
}

/** An output field begins. */
export interface FieldStart extends Shared {
  readonly event_type: "field.start";
  readonly field: string;
}

/**
 * Text of one output field, decoded, as soon as it is certain.
 * `token_index` counts the tokens of this field call from 0. A merged token replaces `count` tokens beginning
 * at `token_index`. `offset` is the number of characters of this field call before it. `finish_reason` is
 * only known after the last text was sent: an empty closing token carries it. `cached` marks text that came
 * from DSPy's cache.
 */
export interface TokenEvent extends Shared {
  readonly event_type: "token";
  readonly field: string;
  readonly token: string;
  readonly token_index?: number;
  readonly offset?: number;
  readonly count?: number;
  readonly finish_reason?: string;
  readonly cached?: boolean;
}

/**
 * A change to the value of a field that is not plain text (`core.partials` applies it).
 * `value` replaces what is at `pointer`, keys and indices from the top: the whole value if it is empty. With
 * `append` it is added to what is there: text to text, items to a list, members to an object. Everything
 * inside `value` is complete; the place itself is in `state` (`"partial"` or `"complete"`), everything above
 * it is partial, and what has not arrived is pending. The last one of a call has the whole value as the
 * program returns it.
 */
export interface FieldPartial extends Shared {
  readonly event_type: "field.partial";
  readonly field: string;
  readonly value: unknown;
  readonly state?: string;
  readonly pointer?: readonly (string | number)[];
  readonly append?: boolean;
}

/** `complete` is false if the attempt failed before the field had ended. */
export interface FieldEnd extends Shared {
  readonly event_type: "field.end";
  readonly field: string;
  readonly length: number;
  readonly complete?: boolean;
}

/** The program's value of the field differs from the text that was streamed: use this. */
export interface FieldCorrected extends Shared {
  readonly event_type: "field.corrected";
  readonly field: string;
  readonly text: string;
  readonly value?: unknown;
}

/** A piece of the model's own thinking; `index` counts its parts. */
export interface Thinking extends Shared {
  readonly event_type: "thinking";
  readonly text: string;
  readonly index?: number;
}

/** A native tool call while the model writes it; `arguments` is a fragment of JSON. */
export interface ToolCallDelta extends Shared {
  readonly event_type: "tool_call.delta";
  readonly index: number;
  readonly name?: string;
  readonly arguments?: string;
}

/** A source that the model cites. */
export interface Citation extends Shared {
  readonly event_type: "citation";
  readonly text?: string;
  readonly title?: string;
  readonly url?: string;
}

/** The provider reports that the model declines to answer; `text` is part of the reason. */
export interface Refusal extends Shared {
  readonly event_type: "refusal";
  readonly text: string;
}

/**
 * A part of the reply that is not text (image, sound, file): where it is, not its bytes.
 * `size` is the number of bytes if the reply itself contains them.
 */
export interface ReplyPart extends Shared {
  readonly event_type: "reply.part";
  readonly kind: string;
  readonly media_type?: string;
  readonly url?: string;
  readonly size?: number;
}

/**
 * The guard `name` has kept text back; it is of the `kind` `"pattern"`, `"words"` or `"check"`.
 * `outcome` is what it does (`"mask"`, `"drop"`, `"replace"`, `"stop"`). In the text of an output `field`,
 * `offset` is the number of characters that were released before it, where that is known. It comes before the
 * event that it is about, or after that one if something opens with it.
 */
export interface Guarded extends Shared {
  readonly event_type: "guarded";
  readonly name: string;
  readonly kind: string;
  readonly outcome?: string;
  readonly field?: string;
  readonly offset?: number;
}

/** A message of `streamll.status` or of a `StatusMessageProvider`. */
export interface Status extends Shared {
  readonly event_type: "status";
  readonly message: string;
}

/** A `streamll.trace` block is entered. */
export interface TraceStart extends Shared {
  readonly event_type: "trace.start";
  readonly name: string;
  readonly trace_id: string;
  readonly parent_trace_id?: string;
}

/** The block is left, after `duration` seconds. */
export interface TraceEnd extends Shared {
  readonly event_type: "trace.end";
  readonly name: string;
  readonly trace_id: string;
  readonly duration: number;
  readonly parent_trace_id?: string;
  readonly error_type?: string;
}

/**
 * The program asks a person and waits (`streamll.ask`).
 * `schema` is the answer's JSON Schema (2020-12). Of a tool call that is to be allowed (`streamll.approve`),
 * `tool` is its name and `arguments` what it would be called with. `to` says whose answer is wanted,
 * `lapses_at` when it is no longer waited for, in seconds since the epoch.
 */
export interface Question extends Shared {
  readonly event_type: "question";
  readonly question_id: string;
  readonly text: string;
  readonly schema?: Readonly<Record<string, unknown>>;
  readonly tool?: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
  readonly to?: string;
  readonly lapses_at?: number;
}

/**
 * A question is no longer open, after `waited` seconds.
 * `outcome` is `"answered"`, `"lapsed"` (nobody answered in time) or `"withdrawn"` (the program was stopped,
 * or somebody declined to answer). `value` is the answer as JSON has it, or the default that stands in for
 * it; `by` is who gave it, where that is known, and `answer_id` what the one who gave it called it.
 */
export interface Answer extends Shared {
  readonly event_type: "answer";
  readonly question_id: string;
  readonly outcome: string;
  readonly value?: unknown;
  readonly by?: string;
  readonly waited?: number;
  readonly answer_id?: string;
}

/** `count` events were lost before this one. It has no `seq` of its own. */
export interface StreamGap extends Shared {
  readonly event_type: "stream.gap";
  readonly count: number;
  readonly reason: string;
}

/** An event of a kind that this client knows; `asCustom` tells the others. */
export type RunEvent =
  | RunStart
  | RunEnd
  | RunError
  | RunCancelled
  | ModuleStart
  | ModuleEnd
  | ModuleError
  | ToolStart
  | ToolEnd
  | ToolError
  | LMStart
  | LMEnd
  | LMSuperseded
  | LMWaiting
  | EvaluateStart
  | EvaluateExample
  | EvaluateEnd
  | CompileStart
  | CompileCandidate
  | CompileEnd
  | FieldStart
  | TokenEvent
  | FieldPartial
  | FieldEnd
  | FieldCorrected
  | Thinking
  | ToolCallDelta
  | Citation
  | Refusal
  | ReplyPart
  | Guarded
  | Status
  | TraceStart
  | TraceEnd
  | Question
  | Answer
  | StreamGap
  ;

/** The kinds of `RunEvent`. */
export const KINDS: ReadonlySet<string> = new Set([
  "run.start",
  "run.end",
  "run.error",
  "run.cancelled",
  "module.start",
  "module.end",
  "module.error",
  "tool.start",
  "tool.end",
  "tool.error",
  "lm.start",
  "lm.end",
  "lm.superseded",
  "lm.waiting",
  "evaluate.start",
  "evaluate.example",
  "evaluate.end",
  "compile.start",
  "compile.candidate",
  "compile.end",
  "field.start",
  "token",
  "field.partial",
  "field.end",
  "field.corrected",
  "thinking",
  "tool_call.delta",
  "citation",
  "refusal",
  "reply.part",
  "guarded",
  "status",
  "trace.start",
  "trace.end",
  "question",
  "answer",
  "stream.gap",
]);

/** What the program sends itself (`streamll.emit`), and kinds that are newer than this client. */
export interface CustomEvent extends Shared {
  readonly event_type: string;
  readonly data?: Readonly<Record<string, unknown>>;
}
