"""Debian's nginx, the machine's own or as `make test` unpacked it, on a port of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brokers.servers import UNPACKED, Unavailable, free_port, listens
from serve.serving import wait_until

CONFIG = """
daemon off;
pid {folder}/pid;
error_log stderr {level};
events {{}}
http {{
    access_log off;
    {temporary}
    map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
    upstream servers {{
        {servers}
    }}
    server {{
        listen 127.0.0.1:{port};
        {server}
        location / {{
            proxy_pass http://servers;
            {location}
        }}
    }}
}}
"""

LIBRARIES = UNPACKED / "usr/lib" / f"{os.uname().machine}-linux-gnu"


def temporary_paths(folder: Path) -> str:
    """Directives that belong into ``http``: those of a Debian nginx are for root alone."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)


def start(folder: Path, *options: str, **streams: Any) -> subprocess.Popen:
    """Start it on ``nginx.conf`` of this folder."""
    return subprocess.Popen(
        [binary(), *options, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")],
        env={"LD_LIBRARY_PATH": str(LIBRARIES)},
        **streams,
    )


def binary() -> str:
    path = f"/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:{UNPACKED / 'usr/sbin'}"
    found = shutil.which("nginx", path=path)
    if found is None:
        raise Unavailable("no nginx: `make test` unpacks one, or apt install nginx")
    return found


class Nginx:
    """Stands before the ports ``upstream``; ``server`` and ``location`` are added to its
    configuration, and ``passed`` to each upstream server's line.
    """

    def __init__(
        self,
        folder: Path,
        *upstream: int,
        server: str = "",
        location: str = "",
        passed: Iterable[str] = (),
        level: str = "warn",
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        rest = " ".join(("", *passed))
        servers = "\n        ".join(f"server 127.0.0.1:{port}{rest};" for port in upstream)
        text = CONFIG.format(
            folder=folder, port=self.port, servers=servers, server=server, location=location,
            level=level, temporary=temporary_paths(folder),
        )  # fmt: skip
        (folder / "nginx.conf").write_text(text)
        self._process = start(folder)
        wait_until(self._answers, what="nginx's start")

    def _answers(self) -> bool:
        assert self._process.poll() is None, "nginx ended"
        return listens(self.port)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)
