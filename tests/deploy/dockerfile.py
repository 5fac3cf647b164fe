"""Runs what a Dockerfile says, without Docker: each step on a layer over this machine's own root.

The machine stands for the base image, with its Python. ``RUN``, ``COPY``, ``ENV``, ``WORKDIR`` and ``USER`` do what
they say in a mount namespace; a container has a network of its own too, a root that is read-only and a
``/tmp`` in memory, as with ``docker run --read-only --tmpfs /tmp --cap-drop ALL``. Linux, as root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BASE_PYTHON = Path(sys._base_executable)
BASE_PATH = f"{BASE_PYTHON.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Instruction(NamedTuple):
    name: str
    flags: dict[str, str]
    value: str

    @property
    def words(self) -> list[str]:
        """The exec form, or what stands there separated by blanks."""
        return json.loads(self.value) if self.value.startswith("[") else self.value.split()


def stages(text: str) -> list[list[Instruction]]:
    """The instructions of each stage; what comes before the first is left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, rest = line.strip().partition(" ")
        flags = dict(re.findall(r"--([a-z-]+)=(\S+)", rest.partition("[")[0]))
        value = re.sub(r"^(--\S+\s+)+", "", rest).strip()
        if name == "FROM":
            found.append([])
        if name and found:
            found[-1].append(Instruction(name, flags, value))
    return found


class Image:
    """A stage that was built into ``folder``; stages before it are in ``built``."""

    def __init__(self, folder: Path, steps: list[Instruction], built: dict[str, Image]) -> None:
        self.folder = folder
        for each in ("layer", "work", "root"):
            (folder / each).mkdir(parents=True)
        self.layer = folder / "layer"
        self.environment = {"PATH": BASE_PATH}
        self.workdir, self.user, self.said = "/", "0:0", {}
        for step in steps:
            getattr(self, f"_{step.name.lower()}", self._say)(step, built)

    def _say(self, step, _built):
        self.said[step.name] = step

    def _env(self, step, _built):
        for name, value in re.findall(r"(\w+)=(\S+)", step.value):
            self.environment[name] = re.sub(
                r"\$(\w+)", lambda found: self.environment.get(found[1], ""), value
            )

    def _workdir(self, step, _built):
        self.workdir = step.value
        self._inside(step.value).mkdir(parents=True, exist_ok=True)

    def _user(self, step, _built):
        self.user = step.value

    def _copy(self, step, built):
        *sources, target = step.words
        other = built.get(step.flags.get("from", ""))
        for source in sources:
            place = self._inside(os.path.join(self.workdir, target))  # noqa: PTH118 - "./"
            if other is None:
                origin = ROOT / source
                place = place / origin.name if target.endswith("/") and origin.is_file() else place
            else:
                origin = other._inside(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            if origin.is_dir():
                shutil.copytree(origin, place, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(origin, place)

    def _run(self, step, _built):
        done = self._process(["/bin/sh", "-c", step.value], network=True)
        said, _ = done.communicate()
        assert done.returncode == 0, f"{step.value}\n{said}"

    def _inside(self, path: str) -> Path:
        """A place of the image, as far as its layer has it."""
        return self.layer / path.lstrip("/")

    def start(self, command, **environment) -> Container:
        """A container of the image; ``command`` in place of ``CMD``, if any is given."""
        words = [*self.said["ENTRYPOINT"].words, *(command or self.said["CMD"].words)]
        return Container(self, self._process(words, environment, sealed=True))

    def _process(self, words, environment=(), *, network=False, sealed=False):
        user, _, group = self.user.partition(":")
        own = {**self.environment, **dict(environment)}
        seal = f"mount -o remount,ro {self.folder}/root && ip link set lo up &&" if sealed else ""
        kept = "\n".join(
            f"mkdir -p {self.folder}/root{each} && mount --bind {each} {self.folder}/root{each}"
            for each in {str(ROOT), sys.prefix, str(BASE_PYTHON.parents[1])}
            if each.startswith("/tmp/")
        )
        # /root is closed to others than root, and may be where this machine's Python is.
        script = f"""set -e
        mount -t overlay overlay -o lowerdir=/,upperdir={self.layer},workdir={self.folder}/work {self.folder}/root
        mkdir -p {self.folder}/root/proc {self.folder}/root/dev
        chmod a+rx {self.folder}/root/root
        mount --rbind /proc {self.folder}/root/proc
        mount --rbind /dev {self.folder}/root/dev
        {seal}
        mount -t tmpfs -o mode=1777 tmpfs {self.folder}/root/tmp
        {kept}
        exec chroot {self.folder}/root setpriv --reuid={user} --regid={group or user} --clear-groups \
            --no-new-privs --inh-caps=-all {"--bounding-set=-all" if sealed else ""} \
            env -i "$@"
        """
        namespaces = ["--mount"] if network else ["--mount", "--net"]
        variables = [f"{name}={value}" for name, value in own.items()]
        inner = ["/bin/sh", "-c", f'cd {self.workdir} && exec "$@"', "sh", *words]
        return subprocess.Popen(
            ["unshare", *namespaces, "/bin/sh", "-c", script, "sh", *variables, *inner],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


class Container:
    """A running process of an image."""

    def __init__(self, image: Image, process: subprocess.Popen) -> None:
        self.image = image
        self.process = process

    def runs(self, words) -> subprocess.CompletedProcess:
        """A command beside it, as ``docker exec`` runs one."""
        user, _, group = self.image.user.partition(":")
        variables = [f"{name}={value}" for name, value in self.image.environment.items()]
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "--root", "--wd"]
        command = [*enter, f"--setuid={user}", f"--setgid={group}", "env", "-i", *variables, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def is_healthy(self) -> bool:
        """What ``HEALTHCHECK`` says."""
        check = self.image.said["HEALTHCHECK"].value.partition("CMD ")[2]
        return self.runs(json.loads(check)).returncode == 0

    def stop(self) -> int:
        """``docker stop``; the exit code."""
        number = getattr(signal, self.image.said["STOPSIGNAL"].value)
        self.process.send_signal(number)
        return self.process.wait(60)

    def remove(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        self.process.stdout.close()
