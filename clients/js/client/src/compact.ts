// Frames to events: the full form as it is, the compact form (docs/wire.md) made whole again.
import type { RunEvent } from "./events.js";
import { codePoints } from "./text.js";

/** Of the kinds that carry text in pieces: the key of the text, and of the number that counts the pieces. */
const KEYS: Record<string, [text: string, index?: string]> = { "token": ["token", "token_index"], "thinking": ["text", "index"], "tool_call.delta": ["arguments"] };
const TICKS = 1e7; // a second

interface Remembered {
  readonly event: Record<string, any>;
  readonly since: number;
  /** Of the next piece. */
  offset: number;
  index: number;
}

/** Reads the frames of one connection. What it cannot read is a `SyntaxError`. */
export class Decoder {
  private readonly remembered = new Map<number, Remembered>();

  read(data: string): RunEvent {
    const frame: unknown = JSON.parse(data);
    if (Array.isArray(frame)) return this.like(frame);
    if (frame === null || typeof frame !== "object" || typeof (frame as RunEvent).event_type !== "string") throw new SyntaxError("a frame is no event");
    const { ref, ...event } = frame as Record<string, any>;
    const keys = Object.hasOwn(KEYS, event.event_type) && KEYS[event.event_type];
    if (typeof ref !== "number" || !keys) return frame as RunEvent;
    const [text, index = ""] = keys, last: Remembered = { event, since: event.timestamp, offset: Number(event.offset ?? 0), index: Number(event[index] ?? 0) };
    this.remembered.set(ref, grown(last, event[text] ?? "", event.count));
    return event as unknown as RunEvent;
  }

  private like([ref, seq, ticks, piece, count]: any[]): RunEvent {
    const last = this.remembered.get(ref);
    if (!last) throw new SyntaxError("a frame is like none before");
    const { count: _, ...event } = last.event, [text, index] = KEYS[event.event_type]!;
    event.seq = seq;
    event.timestamp = last.since + ticks / TICKS;
    if (piece || text !== "arguments") event[text] = piece;
    else delete event[text]; // as any default is
    if (index) event[index] = last.index;
    if (text === "token") {
      if (last.offset) event.offset = last.offset;
      if (count !== undefined) event.count = count;
    }
    grown(last, piece, count);
    return event as unknown as RunEvent;
  }
}

function grown(last: Remembered, text: string, count = 1): Remembered {
  last.offset += codePoints(text);
  last.index += count;
  return last;
}
