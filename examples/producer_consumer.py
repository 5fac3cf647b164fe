"""A program in one process, its reader in another, a log between them.

    python examples/producer_consumer.py                                # an SQLite file
    python examples/producer_consumer.py redis://localhost:6379
    python examples/producer_consumer.py amqp://localhost

The reader never imports dspy.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile


def produce(url: str) -> None:
    import dspy
    from _model import language_model

    import streamll

    sink = streamll.open_sink(url)

    @streamll.instrument(stream_fields=["answer"], sinks=[sink])
    class QA(dspy.Module):
        def __init__(self) -> None:
            self.generate = dspy.Predict("question -> answer")

        def forward(self, question: str) -> dspy.Prediction:
            return self.generate(question=question)

    with language_model({"answer": "A log keeps what one process says for all who read it."}) as lm:
        dspy.configure(lm=lm)
        streamll.set_context(conversation_id="conv_123")
        QA()("What is a log for?")


def consume(url: str) -> None:
    from streamll import EventConsumer

    consumer = EventConsumer(url, start="beginning")

    @consumer.on("token", where={"conversation_id": "conv_123"})
    async def show(event) -> None:
        print(event.token, end="", flush=True)

    @consumer.on("run.end")
    def finish(event) -> None:
        print(f"\nread by a process that {'has' if 'dspy' in sys.modules else 'never'} loaded dspy")
        consumer.stop_soon()

    consumer.run_sync()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        {"produce": produce, "consume": consume}[sys.argv[2]](sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/log.db"
            reader = subprocess.Popen([sys.executable, __file__, url, "consume"])
            subprocess.run([sys.executable, __file__, url, "produce"], check=True)
            reader.wait(30)
