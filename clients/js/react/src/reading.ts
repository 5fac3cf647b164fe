// Hooks that read a run: each renders its component anew only for what it asks for.
import { useEffect, useRef, useSyncExternalStore } from "react";
import type { AnySignature, FieldState, Partially, Question, Run, RunEvent, Signature, Snapshot } from "@streamll/client";
import { framesOf } from "./frames.js";

/** A run: the client's own, or what `useRun` returns; null where there is none yet. */
export type Readable<P extends Signature = AnySignature> = Run<P> | { readonly run: Run<P> | null } | null;

/** A field of the program, as `answer` or `predictor.answer`. */
export type FieldName<P extends Signature> = (keyof P["outputs"] & string) | `${string}.${keyof P["outputs"] & string}`;

/** The type of a field's value while it grows. */
export type FieldValue<P extends Signature, N extends string> = N extends keyof P["outputs"]
  ? Partially<P["outputs"][N]>
  : N extends `${string}.${infer Rest}` ? FieldValue<P, Rest> : unknown;

/** A field as it is now. `value` is undefined for plain text (which is `text`), and before anything of it is certain. */
export interface Field<P extends Signature = AnySignature, N extends string = string> extends Omit<FieldState, "value"> {
  readonly value: FieldValue<P, N> | undefined;
}

export const runOf = <P extends Signature>(readable: Readable<P>): Run<P> | null => (readable && "run" in readable ? readable.run : readable);

/**
 * What `select` finds in the run now, looked at once for each picture that the browser draws. The component is rendered
 * when that is another object, text or number. Undefined where there is no run.
 */
export function useSnapshot<T = Snapshot>(readable: Readable<any>, select: (snapshot: Snapshot) => T = whole<T>): T | undefined {
  const run = runOf(readable), frames = run && framesOf(run);
  let from: Snapshot | undefined, found: T | undefined; // React compares what it gets twice
  const selected = () => {
    const now = frames?.snapshot();
    if (now && now !== from) found = select((from = now));
    return found;
  };
  return useSyncExternalStore(frames?.subscribe ?? nowhere, selected, selected);
}

/** The field of this name that the latest call writes; undefined while there is none. */
export function useField<P extends Signature, N extends FieldName<P>>(run: Readable<P>, name: N): Field<P, N> | undefined {
  return useSnapshot(run, ({ fields }) => fields.findLast((field) => isCalled(field, name))) as Field<P, N> | undefined;
}

/** The questions that wait for an answer; a handle's `run.answer(id, value)` gives it. */
export function useQuestions(run: Readable<any>): readonly Question[] {
  return useSnapshot(run, ({ questions }) => questions) ?? NONE;
}

/** Call `listener` for each event, once and in order, from when the component is there (with `keepEvents` from the run's beginning). */
export function useEvents(readable: Readable<any>, listener: (event: RunEvent) => void): void {
  const run = runOf(readable), latest = useRef(listener);
  useEffect(() => { latest.current = listener; });
  useEffect(() => {
    if (!run) return;
    const events = run[Symbol.asyncIterator]();
    let left = false;
    const read = async () => {
      for await (const event of events) {
        if (left) return;
        try {
          latest.current(event);
        } catch (error) {
          queueMicrotask(() => { throw error; }); // it is the page's, and the run is read on
        }
      }
    };
    read().catch(() => {}); // it is the run's `error`
    return () => {
      left = true;
      void events.return?.();
    };
  }, [run]);
}

export const isCalled = (field: FieldState, name: string) => field.name === name || `${field.predictor}.${field.name}` === name;
const whole = <T>(snapshot: Snapshot) => snapshot as T;
const NONE: readonly Question[] = [];
export const nowhere = () => () => {};
