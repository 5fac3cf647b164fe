// How far a reader has come in a run, and what of an event is new to it. No I/O.
import type { RunEvent, Shared, TokenEvent } from "./events.js";
import { codePoints, upTo } from "./text.js";

interface End {
  index: number;
  offset: number;
}

/** Gives each event once, whatever comes twice after a connection was lost. */
export class Progress {
  /** The position after the last event, as `?after=` takes it; null before the first. */
  position: string | null;
  private last = -1; // the seq of the last event that is no token
  private readonly fields = new Map<string, End>(); // how far the tokens of open fields have come
  private loose: string[] = []; // events without seq since the last one with
  private again: string[] = []; // those that may come again

  constructor(position: string | null = null) {
    this.position = position;
  }

  /** A new connection is made, which begins behind `position`. */
  reconnected(): void {
    this.again = [...this.loose];
  }

  /** The event, or the part of it that is new; null if none is. */
  take(event: RunEvent): RunEvent | null {
    if (event.seq === undefined) return this.takeLoose(event);
    const fresh = event.event_type === "token" ? this.takeToken(event, event.seq) : this.takeOther(event, event.seq);
    if (fresh) {
      this.loose = [];
      this.again = [];
    }
    return fresh;
  }

  private takeLoose(event: RunEvent): RunEvent | null {
    const said = JSON.stringify(event), had = this.again.indexOf(said);
    if (had >= 0) {
      this.again.splice(had, 1);
      return null;
    }
    this.loose.push(said);
    return event;
  }

  private takeOther(event: RunEvent, seq: number): RunEvent | null {
    if (seq <= this.last) return null;
    this.last = seq;
    if (event.event_type === "field.end") this.fields.delete(callOf(event, event.field));
    this.position = `${event.run_id}:${seq}`;
    return event;
  }

  private takeToken(token: TokenEvent, seq: number): TokenEvent | null {
    const call = callOf(token, token.field), known = this.fields.get(call);
    if (!known && seq <= this.last) return null; // its field has ended
    const index = token.token_index ?? 0, offset = token.offset ?? 0, count = token.count ?? 1;
    const had = known ? known.index - index : 0;
    if (had >= count) return null;
    const end = offset + codePoints(token.token);
    this.fields.set(call, { index: index + count, offset: end });
    this.position = `${token.run_id}:${seq + count - 1}:${end}`;
    if (had <= 0) return token;
    const text = token.token.slice(upTo(token.token, Math.max(known!.offset - offset, 0)).length);
    return { ...token, seq: seq + had, token: text, token_index: known!.index, offset: Math.max(known!.offset, offset), count: count - had };
  }
}

const callOf = (event: Shared, field: string) => `${event.call_id}/${event.attempt ?? 0}/${event.candidate ?? 0}/${field}`;
