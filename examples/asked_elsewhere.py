"""A program asks in one process, a service answers in another, a log between them.

    python examples/asked_elsewhere.py                                # an SQLite file
    python examples/asked_elsewhere.py redis://localhost:6379
    python examples/asked_elsewhere.py amqp://localhost

No server runs the program: it hears answers in the log that has its events.
"""

import subprocess
import sys
import tempfile


def program(url: str) -> None:
    import dspy

    import streamll

    class Order(dspy.Module):
        def forward(self, what: str) -> str:
            seats = streamll.ask(f"How many {what}?", schema=int, to="stock")
            return f"{seats} {what} ordered"

    with streamll.stream(Order(), sinks=[streamll.open_sink(url)], read=False)(what="cards") as run:
        print(f"The program returned: {run.result()}", flush=True)


def service(url: str) -> None:
    from streamll import EventConsumer

    consumer = EventConsumer(url, start="beginning")

    @consumer.on("question", where={"to": "stock"})
    def answer(event) -> None:
        print(f"Asked: {event.text}", flush=True)
        consumer.answer(event, 500, by="the stock service")

    @consumer.on("answer")
    def tell(event) -> None:
        print(f"Answered by {event.by}", flush=True)
        consumer.stop_soon()

    consumer.run_sync()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        {"program": program, "service": service}[sys.argv[2]](sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/log.db"
            answering = subprocess.Popen([sys.executable, __file__, url, "service"])
            subprocess.run([sys.executable, __file__, url, "program"], check=True)
            answering.wait(30)
