// A run as its readers have it: it is connected while somebody reads, and comes back after any break.
import { StreamllError, type ErrorCode } from "./errors.js";
import type { RunEvent } from "./events.js";
import { JSON_BODY, type Http } from "./http.js";
import type { Ended, Listener } from "./links.js";
import { Progress } from "./progress.js";
import { isCalled, isEnd, RunState, statusAfter, type Connection, type FieldState, type RunStatus, type Snapshot } from "./state.js";

/** The types of a program's inputs and outputs, as `streamll types` writes them. */
export interface Signature {
  inputs: object;
  outputs: object;
}

export interface AnySignature {
  inputs: Record<string, unknown>;
  outputs: Record<string, any>;
}

/** A value of which parts have not come yet. */
export type Partially<T> = T extends readonly (infer Item)[] ? Partially<Item>[] : T extends object ? { [K in keyof T]?: Partially<T[K]> } : T;

export interface Result<P extends Signature = AnySignature> extends Snapshot {
  /** Each field's value, or text, as its latest call wrote it; what else the program returned, where the server's events carry outputs. */
  readonly values: P["outputs"];
}

type Name<P extends Signature> = (keyof P["outputs"] & string) | (string & {});

/** How a run is reached. `read` makes one connection. */
export interface Way {
  readonly http: Http;
  /** Starts the run; its id. */
  start?(): Promise<string>;
  read(id: string | null, position: string | null, compact: boolean, listener: Listener, signal: AbortSignal): Promise<Ended>;
  /** The run's own address, for what is asked of it besides its events. */
  url?(id: string): URL;
}

export interface RunOptions {
  /** Ends the reading, for good. It does not stop the run: `stop` does. */
  signal?: AbortSignal | undefined;
  /** Told each time the connection changes. */
  onConnection?: ((connection: Connection) => void) | undefined;
  /** Keep all events, so that whoever iterates later has them from the beginning, too. */
  keepEvents?: boolean | undefined;
  /** Ask for the compact form, which an older server does not know (then the full one comes). Default: true. */
  compact?: boolean | undefined;
  /** Read behind this position: `run_id:seq`, or `run_id:seq:offset` within a field's text. */
  after?: string | null | undefined;
  /** Milliseconds until the first attempt to come back (500), doubled each time up to `max` (10,000). */
  backoff?: { first?: number; max?: number } | undefined;
  /** Attempts to come back that may fail one after the other. Default: as many as it takes. */
  retries?: number | undefined;
}

export class Run<P extends Signature = AnySignature> implements AsyncIterable<RunEvent> {
  /** Resolves with the run's id once it is known; rejects if the run could not be started. */
  readonly started: Promise<string>;
  private readonly state = new RunState();
  private readonly progress: Progress;
  private readonly listeners = new Set<() => void>();
  private readonly queues = new Set<Queue>();
  private readonly kept: Item[] | null;
  private unread: Item[] = []; // what an iterator that was the last reader has left
  private connection: Connection = { state: "idle", failures: 0 };
  private last: Snapshot | null = null;
  private telling = false;
  private reading: AbortController | null = null;
  private waiting = 0; // for the result
  private finished = false;
  private problem: unknown; // with which iterators end
  private compact: boolean;
  private identified?: (id: string) => void;
  private readonly over: Promise<void>;
  private end!: () => void;

  /** @internal Use `startRun`, `joinRun` or `openRun`. */
  constructor(private readonly way: Way, id: string | null, private readonly options: RunOptions) {
    this.progress = new Progress(options.after ?? null);
    this.kept = options.keepEvents ? [] : null;
    this.compact = options.compact !== false;
    this.over = new Promise((resolve) => { this.end = resolve; });
    this.state.id = id;
    if (id === null) this.state.status = "starting";
    this.started = id !== null ? Promise.resolve(id) : way.start ? way.start().then((given) => this.identify(given)) : new Promise((resolve, reject) => {
      this.identified = resolve;
      void this.over.then(() => reject(this.problem)); // before an event has said it
    });
    this.started.catch((error) => this.fail(error));
    const { signal } = options, abort = () => this.leave(signal!.reason);
    signal?.addEventListener("abort", abort);
    void this.over.then(() => signal?.removeEventListener("abort", abort));
    if (signal?.aborted) abort();
  }

  get id(): string | null { return this.state.id; }
  get status(): RunStatus { return this.state.status; }
  get error(): Error | null { return this.state.error; }
  /** The token that reads and stops the run, and answers it if whoever started it may: for `joinRun`, after a reload. */
  get token(): string | undefined { return this.way.http.token; }
  /** Behind the last event that was read, by each iterator that there is: for `joinRun`'s `after`. */
  get position(): string | null {
    let left = 0, first = this.unread[0]; // what has come and was not read is lost with this process
    for (const queue of this.queues) if (queue.left > left) ({ left, first } = queue);
    return first ? first.before : this.progress.position;
  }

  // --- readers ------------------------------------------------------------------------------------

  /** The run as it is now; the same object until something changes. */
  readonly snapshot = (): Snapshot => (this.last ??= this.state.snapshot(this.connection));

  /** Call `listener` after each change, once for all that came together; returns how to end that. */
  readonly subscribe = (listener: () => void): (() => void) => {
    const own = () => listener();
    this.listeners.add(own);
    this.demand();
    return () => {
      this.listeners.delete(own);
      this.release();
    };
  };

  /**
   * All events, each once and in order, from when the iterator is made (see `keepEvents`). Who breaks off
   * a loop and begins another reads on where that was, unless somebody else has read on meanwhile.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<RunEvent> {
    const queue = new Queue(this.kept ?? this.unread, (unread) => {
      if (this.queues.delete(queue) && !this.queues.size) this.unread = unread;
      this.release();
    });
    this.unread = [];
    this.queues.add(queue);
    if (this.finished) queue.close(this.problem);
    this.demand();
    return queue;
  }

  /** The run when it has ended. Rejects if it fails, is cancelled, or cannot be read to its end. */
  async result(): Promise<Result<P>> {
    this.waiting++;
    this.demand();
    try {
      await this.over;
    } finally {
      this.waiting--;
      this.release();
    }
    const problem = this.problem ?? this.error;
    if (problem) throw problem;
    return { ...this.snapshot(), values: this.values() };
  }

  // --- fields -------------------------------------------------------------------------------------

  /** The field of this name (or `"predictor.name"`) that the latest call writes. */
  field(name: Name<P>): FieldState | undefined {
    return this.snapshot().fields.findLast((field) => isCalled(field, name));
  }

  /** The text of a field so far; the texts of several calls in the order in which they began. */
  text(name: Name<P>): string {
    return this.snapshot().fields.filter((field) => isCalled(field, name)).map((field) => field.text).join("");
  }

  /** The value of a typed field so far, as its latest call writes it. */
  value<K extends Name<P>>(name: K): (K extends keyof P["outputs"] ? Partially<P["outputs"][K]> : unknown) | undefined {
    return this.field(name)?.value as never;
  }

  private values(): P["outputs"] {
    const latest: [string, unknown][] = this.snapshot().fields.map((field) => [field.name, field.value === undefined ? field.text : field.value]);
    return { ...this.state.outputs, ...Object.fromEntries(latest) } as P["outputs"]; // outputs are clipped
  }

  // --- asking something of the run ------------------------------------------------------------------

  /** Stop the run, whoever else reads it. It ends with `run.cancelled`. */
  async stop(): Promise<void> {
    const id = await this.started;
    if (this.state.usage) return; // it is over
    await this.ask(id, "", { method: "DELETE" });
  }

  /**
   * Answer a question of the run (one of `snapshot().questions`); `by`: who does, where the token does not say it.
   * True once the program has the answer; false if so far only the log has it. Rejects with the codes `wrong`, `closed`, `forbidden`.
   */
  answer(questionId: string, value: unknown, by?: string): Promise<boolean> {
    return this.respond({ question_id: questionId, value, by });
  }

  /** Decline to answer: the program goes on with its default, or fails. */
  decline(questionId: string, by?: string): Promise<boolean> {
    return this.respond({ question_id: questionId, decline: true, by });
  }

  private async respond(body: object): Promise<boolean> {
    const init = { method: "POST", headers: JSON_BODY, body: JSON.stringify(body) };
    const answer = await this.ask(await this.started, "/answers", init, { 403: "forbidden", 409: "closed", 422: "wrong" });
    return answer.status === 200;
  }

  /** A request to the run itself. */
  private async ask(id: string, path: string, init?: RequestInit, codes?: Record<number, ErrorCode>): Promise<Response> {
    const url = this.way.url?.(id);
    if (!url) throw new StreamllError("refused", "where this run comes from, nothing can be asked of it");
    if (path) url.pathname += path;
    return this.way.http.ok(url, init, codes);
  }

  /** End the reading, for all readers and for good. It does not stop the run. */
  close(): void {
    this.leave();
  }

  // --- the connection -------------------------------------------------------------------------------

  private demand(): void {
    if (!this.finished && !this.reading) void this.follow((this.reading = new AbortController()));
  }

  private release(): void {
    setTimeout(() => {
      if (this.listeners.size || this.queues.size || this.waiting) return;
      if (this.id === null && !this.way.start) return; // who comes back would start another; `identify` looks again
      this.reading?.abort();
      this.reading = null;
      if (!this.finished) this.connected({ state: "idle", failures: 0 });
    });
  }

  private async follow(reading: AbortController): Promise<void> {
    const { signal } = reading;
    let failures = 0;
    try {
      if (this.way.start) await this.started;
      while (!signal.aborted && !this.finished) {
        const before = this.progress.position, ended = await this.connect(failures, signal);
        if (signal.aborted || this.finished) return;
        if (ended.over) return await this.lookAtEnd();
        if (ended.quiet) continue;
        failures = before === this.progress.position ? failures + 1 : 1;
        this.check(failures, ended.error);
        const delay = Math.max(ended.wait ?? 0, this.pause(failures));
        this.connected({ state: "waiting", failures, delay, error: ended.error });
        await passed(delay, signal);
      }
    } catch (error) {
      if (!signal.aborted) this.fail(error);
    }
  }

  /** One connection, until it ends. */
  private async connect(failures: number, signal: AbortSignal): Promise<Ended> {
    this.connected({ state: "connecting", failures });
    this.progress.reconnected();
    let broken: Error | null = null;
    const listener: Listener = {
      opened: () => this.connected({ state: "open", failures }),
      hear: (events) => {
        for (const event of events) {
          if (signal.aborted || this.finished) return;
          if ((event.event_type as string) === "stream.error") broken = new Error(String((event as any).data?.message ?? "the server ends the stream"));
          else this.take(event);
        }
      },
    };
    try {
      const ended = await this.way.read(this.id, this.progress.position, this.compact, listener, signal);
      return broken && !ended.over ? { ...ended, error: broken } : ended;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      if (!this.compact) throw new StreamllError("protocol", `what comes is no stream of events: ${error.message}`, { cause: error });
      this.compact = false;
      return { error };
    }
  }

  private check(failures: number, cause: unknown): void {
    if (this.id === null) throw cause instanceof StreamllError ? cause : new StreamllError("network", "the connection broke before the run was known: it may have been started", { cause });
    if (failures > (this.options.retries ?? Infinity)) throw new StreamllError("gave_up", `no connection after ${failures} attempts`, { cause });
  }

  private pause(failures: number): number {
    const { first = 500, max = 10_000 } = this.options.backoff ?? {};
    return Math.min(max, first * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
  }

  /** The server has nothing more, and has not sent the run's end to this reader. */
  private async lookAtEnd(): Promise<void> {
    const gone = (cause?: unknown) => new StreamllError("gone", "the run cannot be read on: its server keeps no log of it", { cause });
    const told: any = await this.ask(this.id!, "").then((answer) => answer.text()).then((text) => JSON.parse(text, (_, value) => value ?? undefined)).catch((error) => { throw gone(error); });
    if (this.finished) return; // it was closed meanwhile
    if (!isEnd(told.status)) throw gone();
    this.state.end(told.status, told, told.error);
    this.finish();
  }

  // --- what comes -----------------------------------------------------------------------------------

  private take(event: RunEvent): void {
    const before = this.progress.position, fresh = this.progress.take(event);
    if (!fresh) return;
    if (this.id === null && fresh.run_id) this.identify(fresh.run_id);
    this.state.take(fresh);
    const item = { event: fresh, before };
    this.kept?.push(item);
    if (this.listeners.size || this.queues.size || this.waiting) this.unread = [];
    else this.unread.push(item); // it came before the connection was closed
    for (const queue of this.queues) queue.put(item);
    if (statusAfter(fresh)) this.finish();
    else this.changed();
  }

  private identify(id: string): string {
    this.state.id = id;
    if (this.status === "starting") this.state.status = "running";
    this.identified?.(id);
    this.release();
    this.changed();
    return id;
  }

  private fail(error: unknown): void {
    if (this.finished) return;
    this.state.status = "unreachable";
    this.state.error = error instanceof Error ? error : new Error(String(error));
    this.finish(error);
  }

  private leave(reason?: unknown): void {
    if (this.finished) return;
    this.reading?.abort();
    this.finish(reason);
    this.problem ??= new DOMException("the run was closed by its reader", "AbortError");
  }

  private finish(problem?: unknown): void {
    this.finished = true;
    this.problem = problem;
    for (const queue of this.queues) queue.close(problem); // each stays until it is read or left: its rest is the next one's
    this.connected({ state: "closed", failures: 0, ...(problem === undefined ? {} : { error: problem }) });
    this.end();
  }

  private connected(connection: Connection): void {
    if (connection.state === this.connection.state && connection.state === "idle") return;
    this.connection = connection;
    told(() => this.options.onConnection?.(connection));
    this.changed();
  }

  private changed(): void {
    this.last = null;
    if (this.telling) return;
    this.telling = true;
    queueMicrotask(() => {
      this.telling = false;
      for (const listener of [...this.listeners]) if (this.listeners.has(listener)) told(listener);
    });
  }
}

/** Call the user's code. What it raises is reported as an error of its own, and the run is read on. */
function told(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}

/** An event, and the position before it. */
interface Item {
  readonly event: RunEvent;
  readonly before: string | null;
}

const READ = 1000; // events that an iterator has had, and forgets together

/** What one iterator has not read yet. */
class Queue implements AsyncIterableIterator<RunEvent> {
  private items: Item[];
  private next_ = 0;
  private closed = false;
  private problem: unknown;
  private wake: (() => void) | null = null;

  constructor(items: readonly Item[], private readonly leave: (unread: Item[]) => void) {
    this.items = [...items];
  }

  get left(): number { return this.items.length - this.next_; }
  get first(): Item | undefined { return this.items[this.next_]; }

  put(item: Item): void {
    this.items.push(item);
    this.wake?.();
  }

  close(problem: unknown): void {
    this.closed = true;
    this.problem = problem;
    this.wake?.();
  }

  async next(): Promise<IteratorResult<RunEvent>> {
    if (!this.left || this.next_ === READ) {
      this.items.splice(0, this.next_);
      this.next_ = 0;
    }
    while (!this.left && !this.closed) await new Promise<void>((resolve) => { this.wake = resolve; });
    if (this.left) return { done: false, value: this.items[this.next_++]!.event };
    const { problem } = this;
    this.problem = undefined;
    this.leave([]);
    if (problem !== undefined) throw problem;
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<RunEvent>> {
    const unread = this.items.splice(this.next_);
    this.close(undefined);
    this.leave(unread);
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Resolves after so many milliseconds, when the machine is online again, or when `signal` aborts. */
function passed(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      globalThis.removeEventListener?.("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    globalThis.addEventListener?.("online", done);
  });
}
