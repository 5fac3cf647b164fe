// The hook that has a run: it starts, joins and stops it. Text that grows does not render its component.
import { useInsertionEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { joinRun, startRun, type AnySignature, type JoinOptions, type ReadOptions, type Run, type RunStatus, type Signature, type Snapshot, type StartOptions, type Token } from "@streamll/client";
import { framesOf } from "./frames.js";
import { nowhere } from "./reading.js";

export interface UseRunOptions<P extends Signature = AnySignature> extends Omit<ReadOptions, "after" | "signal"> {
  /** Where the server is. Default: the folder of the page. */
  base?: string | URL;
  /** The program to start; may be left out where the server has only one. */
  program?: StartOptions<P>["program"];
  /** Added to every event of the runs that are started. */
  context?: Readonly<Record<string, unknown>>;
}

/** The address of a run, or its id on the hook's server. A token of its own comes before the hook's. */
export type Joined = string | URL | (Omit<JoinOptions, "base"> & { base?: string | URL });

type State = Omit<Snapshot, "status" | "fields" | "thinking" | "outputs">;

export interface RunHandle<P extends Signature = AnySignature> extends State {
  /** The client's run; null before the first. */
  readonly run: Run<P> | null;
  /** `idle` before the first run. */
  readonly status: "idle" | RunStatus;
  /** Whether it can be stopped: it is started, or runs. */
  readonly running: boolean;
  /** Start the program. A run that was started here and still runs is stopped. Call it where something has happened, not while rendering. */
  start(inputs: P["inputs"]): Run<P>;
  /** Read a run that has been started: by its address, or its id. Another `start` stops it only if it was started here. */
  join(run: Joined): Run<P>;
  /** Start the program with the latest inputs again. Throws where none were given here. */
  restart(): Run<P>;
  /** Stop the run on the server, for all who read it. */
  stop(): Promise<void>;
  /** Forget the run, which goes on if it runs: no `start` stops it. */
  reset(): void;
}

/**
 * A run, and what starts it. The run is read while a component shows it, and goes on without: where a component comes
 * back to it, it reads on from there.
 */
export function useRun<P extends Signature = AnySignature>(options: UseRunOptions<P> = {}): RunHandle<P> {
  const [run, setRun] = useState<Run<P> | null>(null);
  const latest = useRef(options);
  useInsertionEffect(() => { latest.current = options; });
  const [actions] = useState(() => actionsOf<P>(() => latest.current, setRun));
  const frames = run && framesOf(run), head = frames?.head ?? nothing;
  const state = useSyncExternalStore(frames?.subscribe ?? nowhere, head, head);
  return useMemo(() => ({ ...state, run, running: isRunning(state.status), ...actions }), [state, run, actions]);
}

function actionsOf<P extends Signature>(options: () => UseRunOptions<P>, show: (run: Run<P> | null) => void) {
  let run: Run<P> | null = null, own: Run<P> | null = null, given: P["inputs"] | undefined;
  const turnTo = (other: Run<P> | null) => {
    const same = other !== null && other.id !== null && other.id === own?.id; // a page goes to its run's address, and joins it there
    if (other && own && !same && isRunning(own.status)) own.stop().catch(() => {}); // nobody is left to be told
    own = same ? other : null;
    show((run = other));
  };
  return {
    start(inputs: P["inputs"]) {
      const { base = ".", ...rest } = options(), made = startRun<P>(base, { ...rest, inputs });
      turnTo(made);
      own = made;
      given = inputs;
      return made;
    },
    join(place: Joined) {
      const { base = ".", ...rest } = options(), isAddress = typeof place === "string" || place instanceof URL;
      const made = isAddress ? joinRun<P>(place, rest) : joinRun<P>({ base, ...rest, ...place, token: tokenOf(place.token, rest.token) });
      turnTo(made);
      return made;
    },
    restart() {
      if (given === undefined) throw new Error("useRun: there is nothing to start again, since nothing was started here; call start(inputs)");
      return this.start(given);
    },
    stop: async () => run?.stop(),
    reset: () => turnTo(null),
  };
}

/** The run's own token, and the hook's where that is refused: it may be old. */
function tokenOf(own: Token | undefined, other: Token | undefined): Token | undefined {
  if (typeof own !== "string" || other === undefined) return own ?? other;
  return (refused) => (refused === undefined ? own : typeof other === "function" ? other(refused) : other);
}

const isRunning = (status: string) => status === "starting" || status === "running";
const NOTHING: State & { status: "idle" } = {
  id: null, program: null, status: "idle", connection: { state: "idle", failures: 0 }, message: null, questions: [], error: null, usage: null, retries: 0, lost: 0,
};
const nothing = (): State & { status: "idle" | RunStatus } => NOTHING;
