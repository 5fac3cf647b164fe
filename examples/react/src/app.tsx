import { useEffect, type FormEvent } from "react";
import { Run, useField, useRun, type RunHandle } from "@streamll/react";
import type { Review } from "./review";

const SAVED = "run"; // in the tab's storage: a reload comes back to the run

export function App() {
  const run = useRun<Review>({ base: "/llm/", program: "review" });
  const { id, join } = run, token = run.run?.token;

  useEffect(() => {
    const saved = sessionStorage.getItem(SAVED);
    if (saved) join(JSON.parse(saved));
  }, [join]);
  useEffect(() => {
    if (id) sessionStorage.setItem(SAVED, JSON.stringify({ runId: id, token }));
  }, [id, token]);

  function review(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    run.start({ code: String(new FormData(event.currentTarget).get("code")) });
  }

  return (
    <main>
      <form onSubmit={review}>
        <textarea name="code" aria-label="Code" rows={6} defaultValue={"import os\n\ndef find(name):\n    db.run('select * from users where name = ' + name)\n"} />
        <button>Review</button> <button type="button" onClick={run.stop} disabled={!run.running}>Stop</button>
      </form>
      <Count run={run} />
      <Run
        run={run}
        fields={["findings", "summary"]}
        labels={{ findings: "Findings", summary: "In short" }}
        render={{
          findings: ({ value = [] }) => (
            <ol>
              {value.map(({ line, title, severity }, index) => <li key={index} className={severity}>{title}{line !== undefined && <small> in line {line}</small>}</li>)}
            </ol>
          ),
        }}
      />
    </main>
  );
}

/** Of all that comes, only the findings render it anew. */
function Count({ run }: { run: RunHandle<Review> }) {
  const findings = useField(run, "findings");
  return <p id="count">{findings?.value ? `${findings.value.length} found${findings.done ? "" : " so far"}` : ""}</p>;
}
