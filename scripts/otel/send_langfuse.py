"""``send_langfuse.py URL PUBLIC SECRET``: one observation in a session, sent as Langfuse's own package sends it."""

import sys

from langfuse import Langfuse, propagate_attributes

url, public, secret = sys.argv[1:]
client = Langfuse(public_key=public, secret_key=secret, base_url=url)
with propagate_attributes(session_id="c-17"):
    client.start_observation(name="chat", as_type="generation", model="practice-model").end()
client.flush()
