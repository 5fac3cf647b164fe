// What can go wrong, in one class.
import type { RunCancelled, RunError } from "./events.js";

/**
 * | `code` | |
 * |---|---|
 * | `"unauthorized"` | the server does not accept the token, and there is no other |
 * | `"not_found"` | the server does not have this run |
 * | `"refused"` | the server does not accept the request; `problems` says what is wrong with which input |
 * | `"wrong"` | an answer that its question cannot take: `problems` says where and why, and it stays open |
 * | `"closed"` | the question is not open any more: somebody was first, it lapsed or was withdrawn |
 * | `"forbidden"` | the token may read the run, and not answer it |
 * | `"busy"`, `"unavailable"` | nothing was started: too many runs, or the log is away. Try again after `retryAfter` milliseconds |
 * | `"network"` | no answer to the request that starts a run: it may have been started |
 * | `"gone"` | the run cannot be read on from here: its server keeps no log of it |
 * | `"gave_up"` | so many attempts to come back have failed as `retries` allows |
 * | `"protocol"` | what answers is no streamll server |
 * | `"failed"`, `"cancelled"` | the run itself; `event` is its last event |
 */
export type ErrorCode =
  | "unauthorized" | "not_found" | "refused" | "wrong" | "closed" | "forbidden" | "busy" | "unavailable" | "network" | "gone" | "gave_up" | "protocol"
  | "failed" | "cancelled";

export interface Problem {
  /** Where in the inputs: `to.street`, `tags[0]`; in an answer: `answer.street`. */
  readonly place: string;
  readonly message: string;
}

interface Facts {
  status?: number;
  problems?: readonly Problem[];
  retryAfter?: number;
  event?: RunError | RunCancelled;
  cause?: unknown;
}

export class StreamllError extends Error {
  readonly code: ErrorCode;
  /** Of HTTP. */
  readonly status?: number;
  readonly problems?: readonly Problem[];
  readonly retryAfter?: number;
  readonly event?: RunError | RunCancelled;

  constructor(code: ErrorCode, message: string, { cause, ...facts }: Facts = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "StreamllError";
    this.code = code;
    Object.assign(this, facts);
  }
}
