"""The routes of ``own_routes`` as the command of a server finds them: ``serve.routes.own_app:app``."""

from __future__ import annotations

import os

from serve.routes import own_routes

own_routes.use_model(os.environ["PRACTICE_URL"])
app = own_routes.app_of(os.environ["PRACTICE_LOG"])
