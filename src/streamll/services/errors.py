"""What can be wrong with asking a model, besides what the provider says itself.

A provider's own refusals and failures are lm15's errors (``dspy.lm15.ProviderError`` and its
kin, with status, provider and ``retry_after``); a lost connection is
``dspy.lm15.TransportError``.
"""

from __future__ import annotations

from streamll.core.errors import ConfigurationError, StreamllError


class MissingKeyError(ConfigurationError):
    """No key for a provider. ``variables`` are the environment variables that may hold it."""

    def __init__(self, provider: str, variables: tuple[str, ...]) -> None:
        super().__init__(
            f"{provider} needs a key: set {' or '.join(variables)} in the environment, "
            f"or pass api_key= to iModel"
        )
        self.provider = provider
        self.variables = variables


class ReplySuperseded(StreamllError):
    """A reply began anew after text of it had been read as plain text, which cannot be taken back."""
