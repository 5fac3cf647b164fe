// Built from clients/js/client by scripts/build_clients.py: do not edit.
"use strict";
(() => {
  // client/src/errors.ts
  var StreamllError = class extends Error {
    code;
    /** Of HTTP. */
    status;
    problems;
    retryAfter;
    event;
    constructor(code, message, { cause, ...facts } = {}) {
      super(message, cause === void 0 ? void 0 : { cause });
      this.name = "StreamllError";
      this.code = code;
      Object.assign(this, facts);
    }
  };

  // client/src/text.ts
  function codePoints(text) {
    let pairs = 0;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (unit >= 55296 && unit < 56320) pairs++;
    }
    return text.length - pairs;
  }
  function upTo(text, count) {
    let end = 0;
    while (count-- > 0 && end < text.length) end += text.codePointAt(end) > 65535 ? 2 : 1;
    return text.slice(0, end);
  }

  // client/src/values.ts
  var Growing = class {
    value = void 0;
    own = /* @__PURE__ */ new WeakSet();
    apply(pointer, value, append) {
      this.value = this.placed(this.value, pointer, 0, value, append);
    }
    /** The value, which will not change any more. */
    share() {
      this.own = /* @__PURE__ */ new WeakSet();
      return this.value;
    }
    placed(whole, pointer, depth, value, append) {
      if (depth === pointer.length) return append ? this.joined(whole, value) : value;
      const key = pointer[depth];
      const base = this.owned(isContainer(whole) ? whole : typeof key === "number" ? [] : {});
      if (Array.isArray(base) && !(key >= 0 && key <= base.length)) return base;
      const inner = Object.hasOwn(base, key) ? base[key] : void 0;
      set(base, key, this.placed(inner, pointer, depth + 1, value, append));
      return base;
    }
    joined(before, more) {
      if (typeof before === "string" && typeof more === "string") return before + more;
      if (!isContainer(before) || !isContainer(more)) return before === void 0 ? more : before;
      const base = this.owned(before);
      if (Array.isArray(base) && Array.isArray(more)) for (const item of more) base.push(item);
      else for (const [key, item] of Object.entries(more)) set(base, key, item);
      return base;
    }
    owned(value) {
      if (this.own.has(value)) return value;
      const copy = Array.isArray(value) ? [...value] : { ...value };
      this.own.add(copy);
      return copy;
    }
  };
  var isContainer = (value) => value !== null && typeof value === "object";
  function set(base, key, value) {
    Object.defineProperty(base, key, { value, enumerable: true, configurable: true, writable: true });
  }

  // client/src/fields.ts
  var Field = class {
    name;
    parts = [];
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
    growing = null;
    /** Changes when text that has been shown is no longer right. */
    version = 0;
    /** Changes with everything. */
    changes = 0;
    grown = new Growing();
    constructor(name) {
      this.name = name;
    }
    get text() {
      if (this.parts.length > 1) this.parts = [this.parts.join("")];
      return this.parts[0] ?? "";
    }
    get value() {
      return this.grown.value;
    }
    /** Add text at its offset. What was there already, after a reconnection, is written anew. */
    put(token, offset = this.length) {
      if (offset < this.length) this.replace(upTo(this.text, offset));
      this.parts.push(token);
      this.length += codePoints(token);
      this.changes++;
    }
    replace(text) {
      this.parts = [text];
      this.length = codePoints(text);
      this.version++;
      this.changes++;
    }
    partial(event) {
      const place = event.pointer ?? [];
      this.typed = true;
      this.grown.apply(place, event.value, event.append === true);
      const complete = event.state === "complete";
      this.whole = complete && !place.length;
      this.growing = complete ? place.length ? place.slice(0, -1) : null : place;
      this.version++;
      this.changes++;
    }
    /** The value, which no later change reaches. */
    share() {
      return this.grown.share();
    }
  };
  var Attempt = class {
    number;
    candidate;
    fields = /* @__PURE__ */ new Map();
    thinking = new Field("thinking");
    refusal = new Field("refusal");
    /** Native tool calls, as the model writes them. */
    calls = /* @__PURE__ */ new Map();
    sources = [];
    /** Why it no longer counts, if it does not. */
    superseded = null;
    constructor(number, candidate) {
      this.number = number;
      this.candidate = candidate;
    }
    field(name) {
      let field = this.fields.get(name);
      if (!field) this.fields.set(name, field = new Field(name));
      return field;
    }
  };
  var Attempts = class extends Map {
    of(event) {
      const number = event.attempt ?? 0, candidate = event.candidate ?? 0;
      const key = `${number}.${candidate}`;
      let attempt = this.get(key);
      if (!attempt) this.set(key, attempt = new Attempt(number, candidate));
      return attempt;
    }
    /** Take an event of the call; whether it is one that writes, or voids what was written. */
    take(event) {
      const write = WRITE[event.event_type];
      if (event.event_type === "lm.superseded") this.supersede(event, event.reason);
      else if (write) write(event, this.of(event));
      else return false;
      return true;
    }
    supersede(event, reason) {
      this.of({ ...event, candidate: 0 });
      for (const attempt of this.values()) {
        if (attempt.number === (event.attempt ?? 0)) attempt.superseded = reason;
      }
    }
  };
  var told = (...facts) => facts.filter(Boolean).join(" · ");
  var WRITE = Object.assign(/* @__PURE__ */ Object.create(null), {
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
      if (field.typed && event.value !== void 0 && event.value !== null) field.partial({ value: event.value, state: "complete" });
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
      if (!call) attempt.calls.set(index, call = new Field(event.name ?? "tool call"));
      if (event.name) call.name = event.name;
      call.put(event.arguments ?? "");
    },
    "citation"(event, attempt) {
      attempt.sources.push(told(event.title, event.url, event.text));
    },
    "reply.part"(event, attempt) {
      attempt.sources.push(told(event.kind, event.media_type, event.url));
    }
  });

  // client/src/http.ts
  var JSON_BODY = { "content-type": "application/json" };
  var passes = (status) => status === 408 || status === 429 || status >= 500;
  var Http = class {
    token;
    ask;
    headers;
    fetcher;
    constructor({ token, headers = {}, fetch: fetcher = (...given) => fetch(...given) }) {
      this.token = typeof token === "string" ? token : void 0;
      this.ask = typeof token === "function" ? token : void 0;
      this.headers = Object.fromEntries(new Headers(headers));
      this.fetcher = fetcher;
    }
    /** The token to begin with, where somebody has to be asked for it. */
    async ready() {
      if (this.token === void 0 && this.ask) this.token = await this.ask(void 0) || void 0;
    }
    /** Any answer but 401. */
    async fetch(url, init = {}) {
      await this.ready();
      for (; ; ) {
        const sent = this.token, headers = { ...this.headers, ...init.headers };
        if (sent) headers.authorization = `Bearer ${sent}`;
        const answer = await this.fetcher(url, { cache: "no-store", ...init, headers });
        if (answer.status !== 401) return answer;
        await answer.body?.cancel();
        if (sent !== this.token) continue;
        const other = await this.ask?.(sent ?? "");
        if (!other || other === sent) throw new StreamllError("unauthorized", sent ? "the server does not accept the token" : "the server needs a token", { status: 401 });
        this.token = other;
      }
    }
    /** An answer of 2xx, or an error that says what is wrong; `codes`: what statuses mean here. */
    async ok(url, init, codes) {
      const answer = await this.fetch(url, init);
      if (!answer.ok) throw await refusal(answer, codes);
      return answer;
    }
  };
  async function refusal(answer, more) {
    const { status } = answer, codes = { 404: "not_found", 429: "busy", ...more };
    const body = await answer.json().catch(() => null);
    const said = body?.error?.message ?? body?.error ?? body?.message ?? body?.detail;
    const seconds = Number(answer.headers.get("retry-after") ?? NaN), message = typeof said === "string" ? said : `the server answers ${status}`;
    return new StreamllError(codes[status] ?? (status >= 500 ? "unavailable" : "refused"), message, {
      status,
      ...Array.isArray(body?.problems) ? { problems: body.problems } : {},
      ...seconds >= 0 ? { retryAfter: seconds * 1e3 } : {}
    });
  }

  // client/src/compact.ts
  var KEYS = { "token": ["token", "token_index"], "thinking": ["text", "index"], "tool_call.delta": ["arguments"] };
  var TICKS = 1e7;
  var Decoder = class {
    remembered = /* @__PURE__ */ new Map();
    read(data) {
      const frame = JSON.parse(data);
      if (Array.isArray(frame)) return this.like(frame);
      if (frame === null || typeof frame !== "object" || typeof frame.event_type !== "string") throw new SyntaxError("a frame is no event");
      const { ref, ...event } = frame;
      const keys = Object.hasOwn(KEYS, event.event_type) && KEYS[event.event_type];
      if (typeof ref !== "number" || !keys) return frame;
      const [text, index = ""] = keys, last = { event, since: event.timestamp, offset: Number(event.offset ?? 0), index: Number(event[index] ?? 0) };
      this.remembered.set(ref, grown(last, event[text] ?? "", event.count));
      return event;
    }
    like([ref, seq, ticks, piece, count]) {
      const last = this.remembered.get(ref);
      if (!last) throw new SyntaxError("a frame is like none before");
      const { count: _, ...event } = last.event, [text, index] = KEYS[event.event_type];
      event.seq = seq;
      event.timestamp = last.since + ticks / TICKS;
      if (piece || text !== "arguments") event[text] = piece;
      else delete event[text];
      if (index) event[index] = last.index;
      if (text === "token") {
        if (last.offset) event.offset = last.offset;
        if (count !== void 0) event.count = count;
      }
      grown(last, piece, count);
      return event;
    }
  };
  function grown(last, text, count = 1) {
    last.offset += codePoints(text);
    last.index += count;
    return last;
  }

  // client/src/sse.ts
  var FrameReader = class {
    /** Milliseconds that the server asks to wait before coming back. */
    retry = null;
    rest = "";
    data = [];
    *read(text) {
      const lines = (this.rest + text).split("\n");
      this.rest = lines.pop();
      for (let line of lines) {
        if (line.endsWith("\r")) line = line.slice(0, -1);
        if (line === "") {
          if (this.data.length) yield this.data.join("\n");
          this.data = [];
        } else if (line.startsWith("data:")) {
          this.data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (/^retry: ?\d+$/.test(line)) {
          this.retry = Number(line.slice(6));
        }
      }
    }
  };

  // client/src/links.ts
  function broken(error) {
    if (error instanceof SyntaxError || error instanceof StreamllError && !passes(error.status ?? 0)) throw error;
    return { error, wait: error?.retryAfter };
  }
  async function overSSE(http, url, init, silence, listener, signal) {
    const own = new AbortController(), abort = () => own.abort();
    let timer, silent = false;
    const heard = () => {
      clearTimeout(timer);
      if (silence) timer = setTimeout(() => {
        silent = true;
        own.abort();
      }, silence);
    };
    signal.addEventListener("abort", abort);
    if (signal.aborted) own.abort();
    const frames = new FrameReader(), decoder = new Decoder();
    try {
      heard();
      const answer = await http.ok(url, { ...init, headers: { accept: "text/event-stream", ...init.headers }, signal: own.signal });
      if (answer.status === 204) return { over: true };
      if (!answer.body || !/^text\/event-stream\b/.test(answer.headers.get("content-type") ?? "")) {
        throw new StreamllError("protocol", `${url} answers with no event stream: is it the address of a run?`, { status: answer.status });
      }
      listener.opened();
      heard();
      const reader = answer.body.getReader(), text = new TextDecoder();
      for (; ; ) {
        const { done, value } = await reader.read();
        if (done) return { error: new Error("the server has ended the stream"), wait: frames.retry ?? void 0 };
        heard();
        const events = [];
        for (const data of frames.read(text.decode(value, { stream: true }))) events.push(decoder.read(data));
        if (events.length) listener.hear(events);
      }
    } catch (error) {
      return broken(silent ? new Error(`nothing came for ${silence / 1e3} s`) : error);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      own.abort();
    }
  }
  var NORMAL = 1e3;
  var POLICY_VIOLATION = 1008;
  async function overWebSocket(make, url, look, silence, listener, signal) {
    const decoder = new Decoder();
    let opened = false, quiet = false, problem, timer;
    const code = await new Promise((resolve) => {
      const end = (code2) => {
        clearTimeout(timer);
        signal.removeEventListener("abort", leave);
        resolve(code2);
      };
      const socket = make(url), leave = () => {
        end(0);
        socket.onmessage = null;
        socket.close();
      };
      const heard = () => {
        clearTimeout(timer);
        if (silence) timer = setTimeout(() => {
          quiet = opened;
          leave();
        }, silence);
      };
      heard();
      socket.onopen = () => {
        opened = true;
        heard();
        listener.opened();
      };
      socket.onmessage = ({ data }) => {
        heard();
        try {
          listener.hear([decoder.read(data)]);
        } catch (error) {
          problem = error;
          leave();
        }
      };
      socket.onerror = () => {
      };
      socket.onclose = (closed) => end(closed.code);
      signal.addEventListener("abort", leave);
      if (signal.aborted) leave();
    });
    if (problem) throw problem;
    if (quiet) return { quiet };
    if (code === NORMAL && opened) return { over: true };
    if (!signal.aborted && (!opened || code === POLICY_VIOLATION)) {
      try {
        await look();
      } catch (error) {
        return broken(error);
      }
    }
    return { error: new Error(`the WebSocket was closed with code ${code}`) };
  }

  // client/src/progress.ts
  var Progress = class {
    /** The position after the last event, as `?after=` takes it; null before the first. */
    position;
    last = -1;
    // the seq of the last event that is no token
    fields = /* @__PURE__ */ new Map();
    // how far the tokens of open fields have come
    loose = [];
    // events without seq since the last one with
    again = [];
    // those that may come again
    constructor(position = null) {
      this.position = position;
    }
    /** A new connection is made, which begins behind `position`. */
    reconnected() {
      this.again = [...this.loose];
    }
    /** The event, or the part of it that is new; null if none is. */
    take(event) {
      if (event.seq === void 0) return this.takeLoose(event);
      const fresh = event.event_type === "token" ? this.takeToken(event, event.seq) : this.takeOther(event, event.seq);
      if (fresh) {
        this.loose = [];
        this.again = [];
      }
      return fresh;
    }
    takeLoose(event) {
      const said = JSON.stringify(event), had = this.again.indexOf(said);
      if (had >= 0) {
        this.again.splice(had, 1);
        return null;
      }
      this.loose.push(said);
      return event;
    }
    takeOther(event, seq) {
      if (seq <= this.last) return null;
      this.last = seq;
      if (event.event_type === "field.end") this.fields.delete(callOf(event, event.field));
      this.position = `${event.run_id}:${seq}`;
      return event;
    }
    takeToken(token, seq) {
      const call = callOf(token, token.field), known = this.fields.get(call);
      if (!known && seq <= this.last) return null;
      const index = token.token_index ?? 0, offset = token.offset ?? 0, count = token.count ?? 1;
      const had = known ? known.index - index : 0;
      if (had >= count) return null;
      const end = offset + codePoints(token.token);
      this.fields.set(call, { index: index + count, offset: end });
      this.position = `${token.run_id}:${seq + count - 1}:${end}`;
      if (had <= 0) return token;
      const text = token.token.slice(upTo(token.token, Math.max(known.offset - offset, 0)).length);
      return { ...token, seq: seq + had, token: text, token_index: known.index, offset: Math.max(known.offset, offset), count: count - had };
    }
  };
  var callOf = (event, field) => `${event.call_id}/${event.attempt ?? 0}/${event.candidate ?? 0}/${field}`;

  // client/src/state.ts
  var ENDS = { "run.end": "ended", "run.error": "failed", "run.cancelled": "cancelled" };
  var isEnd = (status) => Object.values(ENDS).includes(status);
  var statusAfter = (event) => Object.hasOwn(ENDS, event.event_type) ? ENDS[event.event_type] : null;
  var RunState = class {
    id = null;
    program = null;
    status = "running";
    message = null;
    questions = [];
    error = null;
    usage = null;
    outputs = null;
    retries = 0;
    lost = 0;
    thinking = null;
    calls = /* @__PURE__ */ new Map();
    shown = [];
    known = /* @__PURE__ */ new Set();
    take(event) {
      const status = statusAfter(event);
      if (status) this.end(status, event, event.message, event);
      else if (event.event_type === "run.start") this.program = event.program;
      else if (event.event_type === "status") this.message = event.message;
      else if (event.event_type === "question") this.questions = [...this.questions, event];
      else if (event.event_type === "answer") this.questions = this.questions.filter((one) => one.question_id !== event.question_id);
      else if (event.event_type === "stream.gap") this.lost += event.count;
      else this.write(event);
    }
    /** It has ended so; `usage` tells of it, and is its last event where that was read. */
    end(status, usage, message, event) {
      this.status = status;
      this.usage = usage;
      this.questions = [];
      if (status === "ended") this.outputs = usage.outputs ?? null;
      if (status === "failed") this.error = new StreamllError(status, message ? `${usage.error_type}: ${message}` : usage.error_type, { event });
      if (status === "cancelled") this.error = new StreamllError(status, "the run was cancelled", { event });
    }
    write(event) {
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
      } else if ("field" in event && event.field !== void 0 && !attempt.candidate && attempt.superseded === null) {
        this.show(event, attempt, attempt.field(event.field));
      }
    }
    show(event, attempt, field) {
      if (this.known.has(field)) return;
      this.known.add(field);
      const about = {
        key: `${event.call_id ?? ""}/${attempt.number}/${field.name}`,
        name: field.name,
        predictor: event.predictor ?? null,
        callId: event.call_id ?? null,
        turn: event.turn ?? 0,
        attempt: attempt.number
      };
      this.shown.push({ field, attempt, about, state: null, at: -1 });
    }
    /** As it is now. What has not changed since the last one is the same object in both. */
    snapshot(connection) {
      const { id, program, status, message, questions, error, usage, outputs, retries, lost } = this;
      const fields = this.shown.map(stateOf);
      const thinking = this.thinking && this.thinking.superseded === null ? this.thinking.thinking.text : "";
      return { id, program, status, connection, fields, thinking, message, questions, error, usage, outputs, retries, lost };
    }
  };
  function stateOf(shown) {
    const { field, about } = shown;
    if (shown.state && shown.at === field.changes) return shown.state;
    const { text, whole, done, complete, corrected, cached } = field;
    shown.at = field.changes;
    return shown.state = { ...about, text, value: field.share(), valueComplete: whole, done, complete, corrected, cached };
  }
  var isCalled = (field, name) => field.name === name || `${field.predictor}.${field.name}` === name;

  // client/src/run.ts
  var Run = class {
    /** @internal Use `startRun`, `joinRun` or `openRun`. */
    constructor(way, id, options) {
      this.way = way;
      this.options = options;
      this.progress = new Progress(options.after ?? null);
      this.kept = options.keepEvents ? [] : null;
      this.compact = options.compact !== false;
      this.over = new Promise((resolve) => {
        this.end = resolve;
      });
      this.state.id = id;
      if (id === null) this.state.status = "starting";
      this.started = id !== null ? Promise.resolve(id) : way.start ? way.start().then((given) => this.identify(given)) : new Promise((resolve, reject) => {
        this.identified = resolve;
        void this.over.then(() => reject(this.problem));
      });
      this.started.catch((error) => this.fail(error));
      const { signal } = options, abort = () => this.leave(signal.reason);
      signal?.addEventListener("abort", abort);
      void this.over.then(() => signal?.removeEventListener("abort", abort));
      if (signal?.aborted) abort();
    }
    way;
    options;
    /** Resolves with the run's id once it is known; rejects if the run could not be started. */
    started;
    state = new RunState();
    progress;
    listeners = /* @__PURE__ */ new Set();
    queues = /* @__PURE__ */ new Set();
    kept;
    unread = [];
    // what an iterator that was the last reader has left
    connection = { state: "idle", failures: 0 };
    last = null;
    telling = false;
    reading = null;
    waiting = 0;
    // for the result
    finished = false;
    problem;
    // with which iterators end
    compact;
    identified;
    over;
    end;
    get id() {
      return this.state.id;
    }
    get status() {
      return this.state.status;
    }
    get error() {
      return this.state.error;
    }
    /** The token that reads and stops the run, and answers it if whoever started it may: for `joinRun`, after a reload. */
    get token() {
      return this.way.http.token;
    }
    /** Behind the last event that was read, by each iterator that there is: for `joinRun`'s `after`. */
    get position() {
      let left = 0, first = this.unread[0];
      for (const queue of this.queues) if (queue.left > left) ({ left, first } = queue);
      return first ? first.before : this.progress.position;
    }
    // --- readers ------------------------------------------------------------------------------------
    /** The run as it is now; the same object until something changes. */
    snapshot = () => this.last ??= this.state.snapshot(this.connection);
    /** Call `listener` after each change, once for all that came together; returns how to end that. */
    subscribe = (listener) => {
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
    [Symbol.asyncIterator]() {
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
    async result() {
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
    field(name) {
      return this.snapshot().fields.findLast((field) => isCalled(field, name));
    }
    /** The text of a field so far; the texts of several calls in the order in which they began. */
    text(name) {
      return this.snapshot().fields.filter((field) => isCalled(field, name)).map((field) => field.text).join("");
    }
    /** The value of a typed field so far, as its latest call writes it. */
    value(name) {
      return this.field(name)?.value;
    }
    values() {
      const latest = this.snapshot().fields.map((field) => [field.name, field.value === void 0 ? field.text : field.value]);
      return { ...this.state.outputs, ...Object.fromEntries(latest) };
    }
    // --- asking something of the run ------------------------------------------------------------------
    /** Stop the run, whoever else reads it. It ends with `run.cancelled`. */
    async stop() {
      const id = await this.started;
      if (this.state.usage) return;
      await this.ask(id, "", { method: "DELETE" });
    }
    /**
     * Answer a question of the run (one of `snapshot().questions`); `by`: who does, where the token does not say it.
     * True once the program has the answer; false if so far only the log has it. Rejects with the codes `wrong`, `closed`, `forbidden`.
     */
    answer(questionId, value, by) {
      return this.respond({ question_id: questionId, value, by });
    }
    /** Decline to answer: the program goes on with its default, or fails. */
    decline(questionId, by) {
      return this.respond({ question_id: questionId, decline: true, by });
    }
    async respond(body) {
      const init = { method: "POST", headers: JSON_BODY, body: JSON.stringify(body) };
      const answer = await this.ask(await this.started, "/answers", init, { 403: "forbidden", 409: "closed", 422: "wrong" });
      return answer.status === 200;
    }
    /** A request to the run itself. */
    async ask(id, path, init, codes) {
      const url = this.way.url?.(id);
      if (!url) throw new StreamllError("refused", "where this run comes from, nothing can be asked of it");
      if (path) url.pathname += path;
      return this.way.http.ok(url, init, codes);
    }
    /** End the reading, for all readers and for good. It does not stop the run. */
    close() {
      this.leave();
    }
    // --- the connection -------------------------------------------------------------------------------
    demand() {
      if (!this.finished && !this.reading) void this.follow(this.reading = new AbortController());
    }
    release() {
      setTimeout(() => {
        if (this.listeners.size || this.queues.size || this.waiting) return;
        if (this.id === null && !this.way.start) return;
        this.reading?.abort();
        this.reading = null;
        if (!this.finished) this.connected({ state: "idle", failures: 0 });
      });
    }
    async follow(reading) {
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
    async connect(failures, signal) {
      this.connected({ state: "connecting", failures });
      this.progress.reconnected();
      let broken2 = null;
      const listener = {
        opened: () => this.connected({ state: "open", failures }),
        hear: (events) => {
          for (const event of events) {
            if (signal.aborted || this.finished) return;
            if (event.event_type === "stream.error") broken2 = new Error(String(event.data?.message ?? "the server ends the stream"));
            else this.take(event);
          }
        }
      };
      try {
        const ended = await this.way.read(this.id, this.progress.position, this.compact, listener, signal);
        return broken2 && !ended.over ? { ...ended, error: broken2 } : ended;
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        if (!this.compact) throw new StreamllError("protocol", `what comes is no stream of events: ${error.message}`, { cause: error });
        this.compact = false;
        return { error };
      }
    }
    check(failures, cause) {
      if (this.id === null) throw cause instanceof StreamllError ? cause : new StreamllError("network", "the connection broke before the run was known: it may have been started", { cause });
      if (failures > (this.options.retries ?? Infinity)) throw new StreamllError("gave_up", `no connection after ${failures} attempts`, { cause });
    }
    pause(failures) {
      const { first = 500, max = 1e4 } = this.options.backoff ?? {};
      return Math.min(max, first * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
    }
    /** The server has nothing more, and has not sent the run's end to this reader. */
    async lookAtEnd() {
      const gone = (cause) => new StreamllError("gone", "the run cannot be read on: its server keeps no log of it", { cause });
      const told3 = await this.ask(this.id, "").then((answer) => answer.text()).then((text) => JSON.parse(text, (_, value) => value ?? void 0)).catch((error) => {
        throw gone(error);
      });
      if (this.finished) return;
      if (!isEnd(told3.status)) throw gone();
      this.state.end(told3.status, told3, told3.error);
      this.finish();
    }
    // --- what comes -----------------------------------------------------------------------------------
    take(event) {
      const before = this.progress.position, fresh = this.progress.take(event);
      if (!fresh) return;
      if (this.id === null && fresh.run_id) this.identify(fresh.run_id);
      this.state.take(fresh);
      const item = { event: fresh, before };
      this.kept?.push(item);
      if (this.listeners.size || this.queues.size || this.waiting) this.unread = [];
      else this.unread.push(item);
      for (const queue of this.queues) queue.put(item);
      if (statusAfter(fresh)) this.finish();
      else this.changed();
    }
    identify(id) {
      this.state.id = id;
      if (this.status === "starting") this.state.status = "running";
      this.identified?.(id);
      this.release();
      this.changed();
      return id;
    }
    fail(error) {
      if (this.finished) return;
      this.state.status = "unreachable";
      this.state.error = error instanceof Error ? error : new Error(String(error));
      this.finish(error);
    }
    leave(reason) {
      if (this.finished) return;
      this.reading?.abort();
      this.finish(reason);
      this.problem ??= new DOMException("the run was closed by its reader", "AbortError");
    }
    finish(problem) {
      this.finished = true;
      this.problem = problem;
      for (const queue of this.queues) queue.close(problem);
      this.connected({ state: "closed", failures: 0, ...problem === void 0 ? {} : { error: problem } });
      this.end();
    }
    connected(connection) {
      if (connection.state === this.connection.state && connection.state === "idle") return;
      this.connection = connection;
      told2(() => this.options.onConnection?.(connection));
      this.changed();
    }
    changed() {
      this.last = null;
      if (this.telling) return;
      this.telling = true;
      queueMicrotask(() => {
        this.telling = false;
        for (const listener of [...this.listeners]) if (this.listeners.has(listener)) told2(listener);
      });
    }
  };
  function told2(call) {
    try {
      call();
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
  var READ = 1e3;
  var Queue = class {
    constructor(items, leave) {
      this.leave = leave;
      this.items = [...items];
    }
    leave;
    items;
    next_ = 0;
    closed = false;
    problem;
    wake = null;
    get left() {
      return this.items.length - this.next_;
    }
    get first() {
      return this.items[this.next_];
    }
    put(item) {
      this.items.push(item);
      this.wake?.();
    }
    close(problem) {
      this.closed = true;
      this.problem = problem;
      this.wake?.();
    }
    async next() {
      if (!this.left || this.next_ === READ) {
        this.items.splice(0, this.next_);
        this.next_ = 0;
      }
      while (!this.left && !this.closed) await new Promise((resolve) => {
        this.wake = resolve;
      });
      if (this.left) return { done: false, value: this.items[this.next_++].event };
      const { problem } = this;
      this.problem = void 0;
      this.leave([]);
      if (problem !== void 0) throw problem;
      return { done: true, value: void 0 };
    }
    async return() {
      const unread = this.items.splice(this.next_);
      this.close(void 0);
      this.leave(unread);
      return { done: true, value: void 0 };
    }
    [Symbol.asyncIterator]() {
      return this;
    }
  };
  function passed(ms, signal) {
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

  // client/src/index.ts
  function joinRun(run, more = {}) {
    if (typeof run !== "string" && "runId" in run) return joined(folder(run.base), run.runId, run, more);
    const url = resolved(run), found = /^(.*\/)runs\/([^/]+?)(?:\/(?:events|ws))?\/?$/.exec(url.pathname);
    if (!found) throw new StreamllError("not_found", `${url} is not the address of a run: it ends with runs/<id>`);
    const query = url.searchParams;
    return joined(new URL(found[1], url), decodeURIComponent(found[2]), { token: query.get("token") ?? void 0, after: query.get("after") }, more);
  }
  function joined(server, id, own, more) {
    const options = { ...own, ...more, token: more.token ?? own.token, after: more.after ?? own.after };
    return new Run(wayOf(server, new Http(options), options), id, options);
  }
  var SILENCE = 6e4;
  function wayOf(server, http, { transport = "sse", silence = SILENCE, WebSocket: Socket = globalThis.WebSocket }) {
    const url = (id, path = "") => new URL(`runs/${encodeURIComponent(id)}${path}`, server);
    const at = (place, position, compact) => {
      if (position) place.searchParams.set("after", position);
      if (compact) place.searchParams.set("compact", "1");
      return place;
    };
    return {
      http,
      url,
      async read(id, position, compact, listener, signal) {
        if (transport === "sse") return overSSE(http, at(url(id, "/events"), position, compact), {}, silence, listener, signal);
        await http.ready();
        const place = at(url(id, "/ws"), position, compact);
        place.protocol = place.protocol.replace("http", "ws");
        if (http.token) place.searchParams.set("token", http.token);
        return overWebSocket((there) => new Socket(there.href), place, () => http.ok(url(id)), silence, listener, signal);
      }
    };
  }
  var resolved = (url) => new URL(url, globalThis.document?.baseURI);
  function folder(base) {
    const url = resolved(base);
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    return url;
  }

  // client/src/viewer.ts
  var page = window;
  page.streamll = Object.assign(page.streamll ?? {}, { joinRun, StreamllError, Attempts, Field, codePoints });
})();
