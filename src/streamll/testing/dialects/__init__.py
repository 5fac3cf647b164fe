"""How servers other than a wire's own provider speak it: one table of changes to replies and frames.

``changes`` has the functions, ``table`` says who does what. A new dialect is an entry there.
"""

from __future__ import annotations

from streamll.testing.dialects.table import DIALECTS, ORDINARY, Dialect, find

__all__ = ["DIALECTS", "ORDINARY", "Dialect", "find"]
