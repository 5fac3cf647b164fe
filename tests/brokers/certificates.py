"""Certificates of one test run: an authority's, those it signed, and another authority's."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trustme


class Certificates:
    """Paths of PEM files. ``server`` is for ``localhost``; ``stranger`` is trusted by none."""

    def __init__(self, folder: Path) -> None:
        import trustme  # not where they are only read

        self._folder = folder
        own, stranger = trustme.CA(), trustme.CA()
        self.authority = self._keep("authority.pem", own.cert_pem)
        self.stranger = self._keep("stranger.pem", stranger.cert_pem)
        self.server, self.server_key = self._issue(own, "server", "localhost")
        self.client, self.client_key = self._issue(own, "client", "client@example.org")
        self.forged, self.forged_key = self._issue(stranger, "forged", "client@example.org")
        over = datetime(2020, 1, 1, tzinfo=timezone.utc)
        self.expired, self.expired_key = self._issue(own, "expired", "localhost", not_after=over)

    def _issue(self, authority: trustme.CA, name: str, whom: str, **options) -> tuple[Path, Path]:
        issued = authority.issue_cert(whom, **options)
        return (
            self._keep(f"{name}.pem", issued.cert_chain_pems[0]),
            self._keep(f"{name}.key", issued.private_key_pem),
        )

    def _keep(self, name: str, pem: trustme.Blob) -> Path:
        pem.write_to_path(str(self._folder / name))
        return self._folder / name
