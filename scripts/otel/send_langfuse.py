"""``send_langfuse.py URL``: one observation in a session, sent as Langfuse's own package sends it."""

import sys

from langfuse import Langfuse, propagate_attributes

client = Langfuse(public_key="pk-lf-PUBLIC", secret_key="sk-lf-SECRET", base_url=sys.argv[1])
with propagate_attributes(session_id="c-17"):
    client.start_observation(name="chat", as_type="generation", model="practice-model").end()
client.flush()
