// A run as a piece of a page: plain elements with class names, without a style of its own.
import { Fragment, memo, type ReactNode } from "react";
import type { AnySignature, FieldState, Question, Run as Client, Signature, Snapshot } from "@streamll/client";
import { isCalled, runOf, useSnapshot, type Field, type FieldName, type Readable } from "./reading.js";

/** The elements of a run. Each has the class `streamll-` and its name. */
export type Slot = "run" | "fields" | "field" | "label" | "value" | "status" | "questions" | "error";

/** What a run is doing, for people. */
export type Word = "idle" | "starting" | "running" | "asking" | "reconnecting" | "ended" | "failed" | "cancelled" | "unreachable";

const BLOCK = 2000; // UTF-16 units

const WORDS: Readonly<Record<Word, ReactNode>> = {
  idle: null,
  starting: "Starting…",
  running: "Writing…",
  asking: "Waits for an answer",
  reconnecting: "The connection is lost. Trying again…",
  ended: "Done",
  failed: "Failed",
  cancelled: "Stopped",
  unreachable: "Cannot be read on",
};

export interface RunProps<P extends Signature = AnySignature> {
  /** What `useRun` returns, or a run of the client's. */
  run: Readable<P>;
  /** The fields to show, in this order. Default: all, in the order in which they begin. */
  fields?: readonly FieldName<P>[];
  /** What fields are called. Default: their names. */
  labels?: { readonly [N in FieldName<P>]?: ReactNode };
  /** What is shown of a field in place of its text, or its value as JSON. */
  render?: { readonly [N in FieldName<P>]?: (field: Field<P, N>) => ReactNode };
  /** What is shown of each question that waits for an answer: a form, whose answer goes to `run.answer(question.question_id, value)`. */
  question?: (question: Question, run: Client<P>) => ReactNode;
  /** The words of the status, where they are to be others. */
  words?: Partial<Record<Word, ReactNode>>;
  /** Classes besides those that the elements have. */
  classNames?: Partial<Record<Slot, string>>;
  /** Below all: buttons, for example. */
  children?: ReactNode;
}

/**
 * The fields of a run as they grow, its status, and what went wrong. Screen readers are told of the status at once, and of
 * the text when it is complete. The whole has `data-status`, each field `data-field` and, when it has ended, `data-done`.
 */
export function Run<P extends Signature = AnySignature>({ run, fields, labels, render, question, words, classNames, children }: RunProps<P>): ReactNode {
  const now = useSnapshot(run), status = now?.status ?? "idle", said = now ? word(now) : "idle";
  const shown = now?.fields ?? [], texts = { ...WORDS, ...words };
  const listed = fields ? fields.flatMap((name) => shown.filter((field) => isCalled(field, name))) : shown;
  const busy = status === "starting" || status === "running";
  return (
    <div className={classOf("run", classNames)} data-status={status}>
      <dl className={classOf("fields", classNames)} aria-live="polite" aria-busy={busy}>
        {listed.map((field) => (
          <FieldView key={field.key} field={field} label={named(labels, field) ?? field.name} render={named(render, field)} classNames={classNames} />
        ))}
      </dl>
      <p className={classOf("status", classNames)} role="status">{(said === "running" && now?.message) || texts[said]}</p>
      {question && now && now.questions.length > 0 && (
        <div className={classOf("questions", classNames)}>
          {now.questions.map((one) => <Fragment key={one.question_id}>{question(one, runOf(run)!)}</Fragment>)}
        </div>
      )}
      {now?.error && status !== "cancelled" && <p className={classOf("error", classNames)} role="alert">{now.error.message}</p>}
      {children}
    </div>
  );
}

interface FieldViewProps {
  field: FieldState;
  label: ReactNode;
  render: ((field: any) => ReactNode) | undefined;
  classNames: Partial<Record<Slot, string>> | undefined;
}

const FieldView = memo(function FieldView({ field, label, render, classNames }: FieldViewProps) {
  return (
    <div className={classOf("field", classNames)} data-field={field.name} data-done={field.done || undefined}>
      <dt className={classOf("label", classNames)}>{label}</dt>
      <dd className={classOf("value", classNames)}>{render ? render(field) : plain(field)}</dd>
    </div>
  );
});

function word({ status, connection, questions }: Snapshot): Word {
  if (status !== "running") return status;
  return connection.state === "waiting" ? "reconnecting" : questions.length ? "asking" : status;
}

/** What is there for a field by its name, or by `predictor.name`. */
function named<T>(all: { readonly [name: string]: T | undefined } | undefined, field: FieldState): T | undefined {
  return all && Object.entries(all).find(([name]) => isCalled(field, name))?.[1];
}

function plain({ value, text }: FieldState): ReactNode {
  if (value === undefined) return inBlocks(text);
  return typeof value === "string" ? inBlocks(value) : <pre>{JSON.stringify(value, null, 2)}</pre>;
}

/**
 * A long text in blocks, of which only the last grows: a browser lays out anew all of the block that has changed.
 * They end where a line does or, where lines are longer than blocks may be, at a space. As text grows its cuts stay.
 */
function inBlocks(text: string): ReactNode {
  const blocks: ReactNode[] = [];
  let from = 0;
  for (let to = cut(text, 0); to; to = cut(text, from)) {
    blocks.push(<div key={from} className="streamll-block">{text.slice(from, to)}</div>);
    from = to;
  }
  return from ? [...blocks, text.slice(from)] : text;
}

/** Where the block ends that begins at `from`; 0 while that is not certain. */
function cut(text: string, from: number): number {
  const most = from + 3 * BLOCK, line = text.indexOf("\n", from + BLOCK) + 1;
  if (line && line <= most) return line;
  if (text.length <= most) return 0;
  const space = text.lastIndexOf(" ", most - 1) + 1, unit = text.charCodeAt(most);
  return space > from ? space : unit >= 0xdc00 && unit < 0xe000 ? most + 1 : most; // between two halves of a character
}

const classOf = (slot: Slot, more: Partial<Record<Slot, string>> | undefined) => `streamll-${slot}${more?.[slot] ? ` ${more[slot]}` : ""}`;
