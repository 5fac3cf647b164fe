// What of a run is on the page: its snapshot, looked at once for each picture that the browser draws.
import type { Run, Snapshot } from "@streamll/client";

/** A hidden page draws nothing, but what follows from a run goes on there as well. */
const UNSEEN_MS = 250;
const HEAD = ["id", "program", "status", "connection", "message", "questions", "error", "usage", "retries", "lost"] as const satisfies (keyof Snapshot)[];

/** One for each run, so that all that show it show the same moment. */
export class Frames {
  private seen: Snapshot;
  private changed: Snapshot;
  private readonly listeners = new Set<() => void>();
  private leave: (() => void) | null = null;
  private cancel: (() => void) | null = null;

  constructor(private readonly run: Run<any>) {
    this.seen = this.changed = run.snapshot();
  }

  readonly snapshot = (): Snapshot => {
    if (!this.leave) this.seen = this.run.snapshot(); // nobody is told of changes
    return this.seen;
  };

  /** The first snapshot since which nothing but texts and values has changed. */
  readonly head = (): Snapshot => {
    const now = this.snapshot();
    if (HEAD.some((key) => now[key] !== this.changed[key])) this.changed = now;
    return this.changed;
  };

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    if (!this.leave) {
      this.leave = this.run.subscribe(() => { this.cancel ??= nextFrame(this.look); });
      this.seen = this.run.snapshot();
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size) return;
      this.leave?.();
      this.cancel?.();
      this.leave = this.cancel = null;
    };
  };

  private readonly look = (): void => {
    this.cancel = null;
    this.seen = this.run.snapshot();
    for (const listener of [...this.listeners]) listener();
  };
}

const all = new WeakMap<Run<any>, Frames>();

export function framesOf(run: Run<any>): Frames {
  let frames = all.get(run);
  if (!frames) all.set(run, (frames = new Frames(run)));
  return frames;
}

function nextFrame(call: () => void): () => void {
  const cancel = () => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
  };
  const once = () => {
    cancel();
    call();
  };
  const timer = setTimeout(once, UNSEEN_MS), frame = requestAnimationFrame(once);
  return cancel;
}
