"""The servers that are read from here have the time that a busy machine needs."""

from __future__ import annotations

from serve.patient import patient_servers  # noqa: F401 - for all tests here
