// Runs of a streamll server in React: one hook that has a run, some that read it, a component that shows it.
"use client";
export { Run, type RunProps, type Slot, type Word } from "./component.js";
export { useEvents, useField, useQuestions, useSnapshot, type Field, type FieldName, type FieldValue, type Readable } from "./reading.js";
export { useRun, type Joined, type RunHandle, type UseRunOptions } from "./use-run.js";
