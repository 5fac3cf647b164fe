// What test_react_hooks.py drives: components that count how often they are rendered.
import { StrictMode, useEffect, useState } from "react";
import { flushSync } from "react-dom";
import { createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server.browser";
import { Run, useEvents, useField, useQuestions, useRun } from "@streamll/react";

const counts = {}, heard = [];
const count = (name) => { counts[name] = (counts[name] ?? 0) + 1; };

function Field({ run, name }) {
  count(name);
  const field = useField(run, name);
  return <output id={name} data-done={field?.done}>{field?.text}</output>;
}

function App() {
  count("App");
  const run = useRun({ base: "llm/", program: "QA" });
  useEvents(run, (event) => {
    heard.push(event.seq);
    if (event.event_type === globalThis.raises) throw new Error(`the page's own, at ${event.event_type}`);
  });
  useEffect(() => { globalThis.run = run; });
  return (
    <main>
      <Field run={run} name="answer" />
      <Field run={run} name="self.score" />
      <Shown run={run} />
    </main>
  );
}

function Shown({ run }) {
  const asked = useQuestions(run).length;
  return (
    <Run
      question={({ question_id, text }, own) => <button onClick={() => own.answer(question_id, true)}>{`${text} (${asked})`}</button>}
      run={run} fields={["score", "answer"]} labels={{ score: "Points" }} classNames={{ field: "mine" }}
      render={{ "self.score": (field) => <b>{JSON.stringify(field.value)}</b> }} words={{ cancelled: "Ended by you" }}
    >
      <button onClick={run.stop}>Stop</button>
    </Run>
  );
}

function One({ number }) {
  const run = useRun({ base: "llm/", program: "QA", transport: number % 2 ? "websocket" : "sse" });
  const { start } = run, answer = useField(run, "answer");
  useEffect(() => { start({ question: `number ${number}` }); }, [start, number]);
  return <li data-status={run.status}>{answer?.text}</li>;
}

/** A hook whose options and actions the tests have. */
function Tokens() {
  const [, render] = useState(0), run = useRun({ base: "llm/", ...globalThis.hook?.options });
  useEffect(() => { globalThis.hook = { ...globalThis.hook, run, render: () => flushSync(() => render((n) => n + 1)) }; });
}

const Many = ({ count }) => <ol>{Array.from({ length: count }, (_, number) => <One key={number} number={number} />)}</ol>;

export const html = () => renderToString(<App />);

if (globalThis.document) {
  const place = document.getElementById("root"), errors = [];
  let root = hydrateRoot(place, <StrictMode><App /></StrictMode>, { onRecoverableError: (error) => errors.push(String(error)) });
  const again = (run) => (root = createRoot(place)).render(<StrictMode><Shown run={run} /></StrictMode>);
  const many = (count) => (root = createRoot(place)).render(<Many count={count} />);
  const tokens = () => (root = createRoot(place)).render(<Tokens />);
  Object.assign(globalThis, { counts, heard, errors, again, many, tokens, leave: () => root.unmount() });
}
