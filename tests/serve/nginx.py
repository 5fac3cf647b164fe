"""Debian's nginx, the machine's own or unpacked into ``.cache``, on a port of its own."""

from __future__ import annotations

import fcntl
import shutil
import socket
import subprocess
from pathlib import Path

from serve.serving import wait_until

PLACE = Path(__file__).parent.parent.parent / ".cache" / "nginx"
PACKAGES = ("nginx", "libpcre2-8-0")

CONFIG = """
daemon off;
pid {folder}/pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
    server {{
        listen 127.0.0.1:{port};
        {server}
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            {location}
        }}
    }}
}}
"""


def binary() -> str:
    """nginx. Downloads Debian's packages once, where the machine has none."""
    if found := shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"):
        return found
    PLACE.mkdir(parents=True, exist_ok=True)
    nginx = PLACE / "usr" / "sbin" / "nginx"
    with (PLACE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not nginx.exists():
            download = ["apt-get", "-q", "download", *PACKAGES]
            got = subprocess.run(download, cwd=PLACE, capture_output=True, timeout=120, check=False)
            if got.returncode:
                subprocess.run(["apt-get", "update"], capture_output=True, timeout=120, check=False)
                subprocess.run(download, cwd=PLACE, capture_output=True, timeout=120, check=True)
            for package in PLACE.glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, PLACE], check=True, timeout=60)
                package.unlink()
    return str(nginx)


class Nginx:
    """Stands before ``upstream``; ``server`` and ``location`` are added to its configuration."""

    def __init__(self, folder: Path, upstream: int, server: str = "", location: str = "") -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = folder / "nginx.conf"
        text = CONFIG.format(
            folder=folder, port=self.port, upstream=upstream, server=server, location=location
        )
        config.write_text(text)
        self._process = subprocess.Popen(
            [binary(), "-p", str(folder), "-e", "stderr", "-c", str(config)],
            env={"LD_LIBRARY_PATH": str(PLACE / "usr" / "lib" / "x86_64-linux-gnu")},
        )
        wait_until(self._answers, what="nginx's start")

    def _answers(self) -> bool:
        assert self._process.poll() is None, "nginx ended"
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)
