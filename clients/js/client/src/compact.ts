// Frames to events: the full form as it is, the compact form (docs/wire.md) made whole again.
import type { RunEvent, TokenEvent } from "./events.js";
import { codePoints } from "./text.js";

const TEXT: Record<string, string> = { "token": "token", "thinking": "text", "tool_call.delta": "arguments" };
const TICKS = 1e7; // a second

interface Remembered {
  readonly event: Record<string, unknown>;
  readonly key: string;
  readonly since: number;
  offset: number;
  index: number;
}

/** Reads the frames of one connection. What it cannot read is a `SyntaxError`. */
export class Decoder {
  private readonly remembered = new Map<unknown, Remembered>();

  read(data: string): RunEvent {
    const frame: unknown = JSON.parse(data);
    if (Array.isArray(frame)) return this.like(frame);
    if (frame === null || typeof frame !== "object" || typeof (frame as RunEvent).event_type !== "string") throw new SyntaxError("a frame is no event");
    const { ref, ...event } = frame as Record<string, unknown>;
    const key = TEXT[event.event_type as string];
    if (ref === undefined || !key) return frame as RunEvent;
    this.remembered.set(ref, { event, key, since: event.timestamp as number, ...after(event as unknown as TokenEvent) });
    return event as unknown as RunEvent;
  }

  private like([ref, seq, ticks, text, count = 1]: any[]): RunEvent {
    const last = this.remembered.get(ref);
    if (!last) throw new SyntaxError("a frame is like none before");
    const { count: _, ...event } = last.event;
    event.seq = seq;
    event.timestamp = last.since + ticks / TICKS;
    event[last.key] = text;
    if (last.key === "token") {
      if (last.offset) event.offset = last.offset;
      event.token_index = last.index;
      if (count !== 1) event.count = count;
      last.offset += codePoints(text);
      last.index += count;
    }
    return event as unknown as RunEvent;
  }
}

/** Where the token after this one begins. */
function after(token: TokenEvent): { offset: number; index: number } {
  return {
    offset: (token.offset ?? 0) + codePoints(token.token ?? ""),
    index: (token.token_index ?? 0) + (token.count ?? 1),
  };
}
