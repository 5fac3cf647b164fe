"""``python -m streamll`` is ``streamll``."""

from __future__ import annotations

from streamll.cli.main import main

raise SystemExit(main())
