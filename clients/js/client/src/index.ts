// Reads the runs of a streamll server: every token, field and step, live, once and in order.
import { StreamllError } from "./errors.js";
import { KINDS, type CustomEvent, type Shared } from "./events.js";
import { Http, JSON_BODY, type HttpOptions } from "./http.js";
import { overSSE, overWebSocket } from "./links.js";
import { Run, type AnySignature, type RunOptions, type Signature, type Way } from "./run.js";

export type * from "./events.js";
export { StreamllError, type ErrorCode, type Problem } from "./errors.js";
export type { Token } from "./http.js";
export { Run, type AnySignature, type Partially, type Result, type Signature } from "./run.js";
export type { Connection, FieldState, RunStatus, Snapshot } from "./state.js";

export interface ReadOptions extends RunOptions, HttpOptions {
  /** Default: `"sse"`. A browser has six connections of HTTP/1.1 to a server, and as many WebSockets as it takes. */
  transport?: "sse" | "websocket" | undefined;
  /** Milliseconds without a word after which a connection counts as lost; the server sends heartbeats. Default: 60,000; 0: never. */
  silence?: number | undefined;
  /** The class, where it is none of the platform's. */
  WebSocket?: (new (url: string) => WebSocket) | undefined;
}

export interface StartOptions<P extends Signature = AnySignature> extends Omit<ReadOptions, "after"> {
  /** Its name; may be left out where the server has only one. */
  program?: P extends { program: infer Name } ? Name : string;
  inputs: P["inputs"];
  /** Added to every event of the run. */
  context?: Readonly<Record<string, unknown>>;
}

export interface JoinOptions extends ReadOptions {
  base: string | URL;
  runId: string;
}

export interface OpenOptions extends Omit<ReadOptions, "after" | "transport"> {
  /** Sent as JSON by POST. */
  body: unknown;
  /** Where a reader comes back, with `Last-Event-ID`. Default: the same address, by GET. */
  resume?: string | URL;
  /** Where a DELETE stops the run of this id. */
  stop?: (id: string) => string | URL;
}

/** Start a run of a program of the server at `base`, and read it. Sent at once; read when somebody reads. */
export function startRun<P extends Signature = AnySignature>(base: string | URL, options: StartOptions<P>): Run<P> {
  const { program, inputs, context } = options, server = folder(base), http = new Http(options);
  const start = async () => {
    const body = JSON.stringify({ program, inputs, context });
    const answer = await http.ok(new URL("runs", server), { method: "POST", headers: JSON_BODY, body }).catch((error) => {
      throw error instanceof StreamllError ? error : new StreamllError("network", "the server did not answer: the run may have been started", { cause: error });
    });
    const { run_id, token, answer_token } = await answer.json().catch(() => ({}));
    if (typeof run_id !== "string") throw new StreamllError("protocol", `${server} is no streamll server`);
    http.token = answer_token ?? token ?? http.token;
    return run_id;
  };
  return new Run<P>({ ...wayOf(server, http, options), start }, null, options);
}

/** Read a run that has been started: by its address (as `POST /runs` returns it), or by server and id. */
export function joinRun<P extends Signature = AnySignature>(run: string | URL | JoinOptions, more: ReadOptions = {}): Run<P> {
  if (typeof run !== "string" && "runId" in run) return joined(folder(run.base), run.runId, run, more);
  const url = resolved(run), found = /^(.*\/)runs\/([^/]+?)(?:\/(?:events|ws))?\/?$/.exec(url.pathname);
  if (!found) throw new StreamllError("not_found", `${url} is not the address of a run: it ends with runs/<id>`);
  const query = url.searchParams;
  return joined(new URL(found[1]!, url), decodeURIComponent(found[2]!), { token: query.get("token") ?? undefined, after: query.get("after") }, more);
}

function joined(server: URL, id: string, own: ReadOptions, more: ReadOptions): Run<any> {
  const options = { ...own, ...more, token: more.token ?? own.token, after: more.after ?? own.after };
  return new Run(wayOf(server, new Http(options), options), id, options);
}

/** Run a program by a route of one's own, which answers with `sse_response`. With a log it can be resumed. */
export function openRun<P extends Signature = AnySignature>(url: string | URL, options: OpenOptions): Run<P> {
  const { stop, silence = SILENCE } = options, at = resolved(url), back = resolved(options.resume ?? at), http = new Http(options);
  const way: Way = {
    http,
    read(_, position, __, listener, signal) {
      const post = { method: "POST", headers: JSON_BODY, body: JSON.stringify(options.body) };
      if (position === null) return overSSE(http, at, post, silence, listener, signal);
      const place = new URL(back);
      place.searchParams.set("lastEventId", position); // for routes that say so in their signature
      return overSSE(http, place, { headers: { "last-event-id": position } }, silence, listener, signal);
    },
    ...(stop ? { url: (id: string) => resolved(stop(id)) } : {}),
  };
  return new Run<P>(way, null, options);
}

/** The event, if it is one of the program's own or of a kind that is newer than this client; otherwise null. */
export function asCustom(event: Shared & { readonly event_type: string }): CustomEvent | null {
  return KINDS.has(event.event_type) ? null : event;
}

const SILENCE = 60_000;

function wayOf(server: URL, http: Http, { transport = "sse", silence = SILENCE, WebSocket: Socket = globalThis.WebSocket }: ReadOptions): Way {
  const url = (id: string, path = "") => new URL(`runs/${encodeURIComponent(id)}${path}`, server);
  const at = (place: URL, position: string | null, compact: boolean) => {
    if (position) place.searchParams.set("after", position);
    if (compact) place.searchParams.set("compact", "1");
    return place;
  };
  return {
    http,
    url,
    async read(id, position, compact, listener, signal) {
      if (transport === "sse") return overSSE(http, at(url(id!, "/events"), position, compact), {}, silence, listener, signal);
      await http.ready();
      const place = at(url(id!, "/ws"), position, compact);
      place.protocol = place.protocol.replace("http", "ws");
      if (http.token) place.searchParams.set("token", http.token);
      return overWebSocket((there) => new Socket(there.href), place, () => http.ok(url(id!)), silence, listener, signal);
    },
  };
}

const resolved = (url: string | URL) => new URL(url, globalThis.document?.baseURI);

function folder(base: string | URL): URL {
  const url = resolved(base);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}
