"""A custom sink: override ``handle_event``. It is called in order, on the sink's own thread, so
a slow sink never slows down the program."""

import dspy
from _model import language_model

import streamll
from streamll.core.events import TokenEvent
from streamll.sinks.base import BaseSink


class TokenCollector(BaseSink):
    def __init__(self):
        super().__init__()
        self.tokens = []

    def handle_event(self, event):
        if isinstance(event, TokenEvent):
            self.tokens.append(event)
            print(f"Token #{event.token_index}: {event.token}")

    def get_text(self, field=None):
        """Reconstruct text from tokens."""
        if field:
            tokens = [e.token for e in self.tokens if e.data.get("field") == field]
        else:
            tokens = [e.token for e in self.tokens]
        return "".join(tokens)


collector = TokenCollector()


@streamll.instrument(stream_fields=["translation"], sinks=[collector])
class Translator(dspy.Module):
    def __init__(self):
        super().__init__()
        self.translate = dspy.Predict("text, target_language -> translation")

    def forward(self, text, target_language):
        return self.translate(text=text, target_language=target_language)


with language_model({"translation": "こんにちは、世界。"}) as lm:
    dspy.configure(lm=lm)
    result = Translator()("Hello, world.", "日本語")

assert collector.get_text("translation") == result.translation
print(f"\nCollected: {collector.get_text('translation')}")
