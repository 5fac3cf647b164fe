"""``dspy.lm15``, which all of this part stands on, or the word that this DSPy does not have it."""

import dspy

__all__ = ["lm15"]

try:
    from dspy import lm15
except ImportError:
    raise ImportError(
        "iModel, and sessions and chats with it, need DSPy 3.4 or newer, and this is "
        f"{dspy.__version__}; streams of programs work here"
    ) from None
