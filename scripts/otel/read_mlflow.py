"""``read_mlflow.py URL``: the one trace of its first experiment, as MLflow's own client reads it."""

import json
import sys

import mlflow

mlflow.set_tracking_uri(sys.argv[1])
[trace] = mlflow.search_traces(locations=["0"], return_type="list")
usage = trace.info.token_usage
found = {
    "session": trace.info.trace_metadata.get("mlflow.trace.session"),
    "tokens": [usage["input_tokens"], usage["output_tokens"]],
    "spans": [
        {
            "name": span.name,
            "kind": span.span_type,
            "input": json.dumps(span.inputs),
            "output": json.dumps(span.outputs),
            "model": span.attributes.get("mlflow.llm.model"),
        }
        for span in trace.data.spans
    ],
}
print(json.dumps(found))
