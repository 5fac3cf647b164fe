"""An agent in a server's process of its own: ``python agui_agent.py LOG MODEL_URL LOST``."""

from __future__ import annotations

import socket
import sys


def main(log, model_url, lost_seconds):
    import dspy
    import uvicorn

    import streamll
    from streamll.serve import Limits, create_app, runner

    # Who was cut at once may be back before a busy machine's log has the run of the thread.
    runner.CHAT_APPEARS_S = 30.0
    runner.LOGGED_S = 60.0

    class Agent(dspy.Module):
        """Plans, runs a tool that fails, and answers at its second attempt."""

        def __init__(self):
            super().__init__()
            self.plan = dspy.Predict("question -> plan: list[str]")
            self.say = dspy.Predict("question -> reasoning, answer")
            self.search = dspy.Tool(self.look_up, name="search")

        def look_up(self, what: str) -> str:
            raise KeyError(what)

        def forward(self, question):
            streamll.status("planning")
            plan = self.plan(question=question).plan
            try:
                self.search(what=plan[0])
            except KeyError:
                streamll.status("nothing found")
            return self.say(question=question)

    lm = dspy.LM("openai/practice", api_base=model_url, api_key="practice", cache=False)
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter())
    streamll.configure(include=["tools"])
    limits = Limits(lost_seconds=float(lost_seconds))
    app = create_app({"agent": Agent()}, log=log, limits=limits)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(listening.getsockname()[1])
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=5, timeout_keep_alive=60
        )
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
