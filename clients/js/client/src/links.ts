// One connection to a run, over SSE or a WebSocket: it ends, or throws what makes coming back senseless.
import { Decoder } from "./compact.js";
import { StreamllError } from "./errors.js";
import type { RunEvent } from "./events.js";
import { passes, type Http } from "./http.js";
import { FrameReader } from "./sse.js";

/** `over`: the server has nothing more of this run. `quiet`: nothing came for long, which need not be a failure. `error`: why it broke. `wait`: milliseconds, if the server asks for it. */
export interface Ended {
  readonly over?: boolean;
  readonly quiet?: boolean;
  readonly error?: unknown;
  readonly wait?: number | undefined;
}

export interface Listener {
  opened(): void;
  /** What has come together. */
  hear(events: RunEvent[]): void;
}

/** What ended a connection, unless there is no sense in coming back. */
function broken(error: any): Ended {
  if (error instanceof SyntaxError || (error instanceof StreamllError && !passes(error.status ?? 0))) throw error;
  return { error, wait: error?.retryAfter };
}

/** A stream of the run's events, by a request that is built for it. */
export async function overSSE(http: Http, url: URL, init: RequestInit, silence: number, listener: Listener, signal: AbortSignal): Promise<Ended> {
  const own = new AbortController(), abort = () => own.abort();
  let timer: ReturnType<typeof setTimeout> | undefined, silent = false;
  const heard = () => {
    clearTimeout(timer);
    if (silence) timer = setTimeout(() => { silent = true; own.abort(); }, silence);
  };
  signal.addEventListener("abort", abort);
  if (signal.aborted) own.abort();
  const frames = new FrameReader(), decoder = new Decoder();
  try {
    heard();
    const answer = await http.ok(url, { ...init, headers: { accept: "text/event-stream", ...(init.headers as object) }, signal: own.signal });
    if (answer.status === 204) return { over: true };
    if (!answer.body || !/^text\/event-stream\b/.test(answer.headers.get("content-type") ?? "")) {
      throw new StreamllError("protocol", `${url} answers with no event stream: is it the address of a run?`, { status: answer.status });
    }
    listener.opened();
    heard();
    const reader = answer.body.getReader(), text = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { error: new Error("the server has ended the stream"), wait: frames.retry ?? undefined };
      heard();
      const events = [];
      for (const data of frames.read(text.decode(value, { stream: true }))) events.push(decoder.read(data));
      if (events.length) listener.hear(events);
    }
  } catch (error) {
    return broken(silent ? new Error(`nothing came for ${silence / 1000} s`) : error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    own.abort();
  }
}

const NORMAL = 1000, POLICY_VIOLATION = 1008;

/**
 * The same over a WebSocket. No status tells a browser why one was refused: `look` asks over HTTP,
 * and throws if there is no sense in coming back.
 */
export async function overWebSocket(make: (url: URL) => WebSocket, url: URL, look: () => Promise<unknown>, silence: number, listener: Listener, signal: AbortSignal): Promise<Ended> {
  const decoder = new Decoder();
  let opened = false, quiet = false, problem: unknown, timer: ReturnType<typeof setTimeout> | undefined;
  const code = await new Promise<number>((resolve) => {
    const end = (code: number) => { clearTimeout(timer); signal.removeEventListener("abort", leave); resolve(code); };
    const socket = make(url), leave = () => { end(0); socket.onmessage = null; socket.close(); };
    const heard = () => {
      clearTimeout(timer);
      if (silence) timer = setTimeout(() => { quiet = opened; leave(); }, silence);
    };
    heard();
    socket.onopen = () => { opened = true; heard(); listener.opened(); };
    socket.onmessage = ({ data }) => {
      heard();
      try {
        listener.hear([decoder.read(data as string)]);
      } catch (error) {
        problem = error;
        leave();
      }
    };
    socket.onerror = () => {}; // it is closed as well
    socket.onclose = (closed) => end(closed.code);
    signal.addEventListener("abort", leave);
    if (signal.aborted) leave();
  });
  if (problem) throw problem;
  if (quiet) return { quiet }; // a script sees no heartbeats of a WebSocket: the run may be silent, or the line dead
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
