"""What the compact form of the native wire saves: bytes and CPU per delivered token.

    python bench/wire_form.py                 one reader, and 100 readers of one run
    python bench/wire_form.py --readers 1 --rounds 1

The server of ``serving.py`` (uvicorn, a run whose events go into an SQLite log and from there to its
readers), read in each form over SSE and over WebSocket; the four take turns, round after round. The
readers ask for compressed WebSocket messages, as browsers do. Bytes are those that arrive at a reader's
socket, its own request's answer apart. CPU is that of the server's process, with the writing of the log.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys

import serving
from websockets.asyncio.client import ClientConnection, connect

FORMS = ("SSE", "SSE, compact", "WebSocket", "WebSocket, compact")


class Counting(ClientConnection):
    """Counts what arrives once it is open."""

    received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)


async def over_sse(port: int, path: str, expected: int, ready) -> tuple[int, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"\n\n")
    ready()
    count = received = 0
    while count < expected and (data := await reader.read(2**18)):
        received += len(data)
        count += data.count(b"data: ")
    writer.close()
    return count, received


async def over_websocket(port: int, path: str, expected: int, ready) -> tuple[int, int]:
    count = 0
    async with connect(f"ws://127.0.0.1:{port}{path}", create_connection=Counting) as socket:
        ready()
        before = socket.received
        async for _ in socket:
            count += 1
            if count == expected:
                return count, socket.received - before
    return count, socket.received - before


async def measure(port: int, form: str, readers: int, tokens: int, pace: float) -> dict[str, float]:
    everybody, begun = asyncio.Event(), 0

    def ready() -> None:
        nonlocal begun
        begun += 1
        if begun == readers:
            everybody.set()

    read = over_sse if form.startswith("SSE") else over_websocket
    query = "?compact=1" if form.endswith("compact") else ""
    path = f"/runs/{serving.run_id(0)}/{'events' if read is over_sse else 'ws'}{query}"
    tasks = [asyncio.create_task(read(port, path, tokens, ready)) for _ in range(readers)]
    await asyncio.wait_for(everybody.wait(), 60)
    await asyncio.sleep(1)
    start = serving.look(port)
    await asyncio.to_thread(serving.go, port, 1, tokens, pace)
    counts = await asyncio.wait_for(asyncio.gather(*tasks), 300)
    end = serving.look(port)
    delivered = sum(count for count, _ in counts)
    return {
        "lost": tokens * readers - delivered,
        "bytes": sum(received for _, received in counts) / delivered,
        "cpu_us": (end["cpu"] - start["cpu"]) / delivered * 1e6,
    }


def compare(rounds: int, **numbers) -> None:
    got: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    for _ in range(rounds):
        for form in FORMS:
            with serving.server("streamll") as port:
                got[form].append(asyncio.run(measure(port, form, **numbers)))
    print(f"{'':20}{'lost':>6}{'bytes/token':>13}{'× full':>8}{'µs CPU/token':>14}{'× full':>8}")
    for form in FORMS:
        full = got[form.partition(",")[0]]
        row = [sum(each["lost"] for each in got[form])]
        for key in ("bytes", "cpu_us"):
            row.append(statistics.median(each[key] for each in got[form]))
            pairs = zip(got[form], full, strict=True)
            row.append(statistics.median(each[key] / other[key] for each, other in pairs))
        print("{:20}{:6.0f}{:13.1f}{:8.2f}{:14.1f}{:8.2f}".format(form, *row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--readers", type=int, nargs="*", default=[1, 100])
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        f"medians of {options.rounds} rounds; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {sys.version.split()[0]}"
    )
    for readers in options.readers:
        pace = 0.01 if readers == 1 else 0.05
        print(f"\none run to {readers} reader{'s' * (readers > 1)}, {1 / pace:.0f} tokens/s")
        compare(options.rounds, readers=readers, tokens=options.tokens, pace=pace)


if __name__ == "__main__":
    main()
