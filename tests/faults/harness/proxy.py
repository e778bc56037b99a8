"""A TCP proxy that can be told to fail: in a process of its own, so that it moves bytes whatever else the harness is at."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from threading import RLock
from typing import TYPE_CHECKING

import uvloop

from worker.devstack.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

_CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s: closing sends RST
_START_SECONDS = 20


class Way(StrEnum):
    OPEN = "open"
    LATENCY = "latency"
    BLACKHOLE = "blackhole"
    RESET = "reset"
    CUT = "cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """What happens to the bytes from now on.

    latency: every chunk is `seconds` late. blackhole: connections are accepted and nothing moves; it moves on afterwards. reset: all are
    reset, new ones too. cut: each is ended in the middle of what it says, after `size` more bytes.
    """

    way: Way = Way.OPEN
    seconds: float = 0
    size: int = 0


@dataclass(slots=True, eq=False)
class _Link:
    """One client's connection and ours to the server; `left` is how many bytes it may still move while connections are cut."""

    writers: list[asyncio.StreamWriter]
    left: int

    def reset(self) -> None:
        for writer in self.writers:
            with suppress(OSError, ValueError, AttributeError):  # uvloop has these for a socket that is closed by now
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


@dataclass(slots=True)
class Proxy:
    """Passes on what comes to `port` to `server_port`, as far as its mode lets it; both on the loopback interface."""

    port: int
    server_port: int
    mode: Mode = field(default_factory=Mode)
    links: set[_Link] = field(default_factory=set)
    moving: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> asyncio.Server:
        self.moving.set()
        return await asyncio.start_server(self._serve, LOOPBACK, self.port)

    def switch(self, mode: Mode) -> None:
        self.mode = mode
        if mode.way is Way.BLACKHOLE:
            self.moving.clear()
        else:
            self.moving.set()
        for link in self.links:
            link.left = mode.size
            if mode.way is Way.RESET:
                link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link([writer], self.mode.size)
        self.links.add(link)
        try:
            await self.moving.wait()
            if self.mode.way is Way.RESET:
                raise ConnectionResetError
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self.server_port)
            link.writers.append(server_writer)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(link, reader, server_writer))
                pumps.create_task(self._pump(link, server_reader, writer))
            link.close()
        except* (OSError, RuntimeError):  # uvloop says RuntimeError of a transport that is closed
            link.reset()
        finally:
            self.links.discard(link)

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await self.moving.wait()
            if self.mode.way is Way.LATENCY:
                await asyncio.sleep(self.mode.seconds)
            if self.mode.way is Way.CUT:
                if link.left < len(chunk):
                    writer.write(chunk[: link.left])
                    link.close()
                    return
                link.left -= len(chunk)
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """A proxy as the harness holds it."""

    port: int
    control: Connection
    lock: RLock = field(default_factory=RLock)

    def switch(self, mode: Mode) -> None:
        """Return once the proxy is in this mode. `lock` is for whoever needs it to stay there."""
        self.control.send(mode)
        self.control.recv()


@contextmanager
def running_proxy(port: int, server_port: int) -> Iterator[RunningProxy]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, port, server_port), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_START_SECONDS):
            raise TimeoutError(f"the proxy on port {port} did not start")
        ours.recv()
        yield RunningProxy(port, ours)
    finally:
        ours.close()
        process.join(5)
        process.kill()


def _run(control: Connection, port: int, server_port: int) -> None:
    with suppress(EOFError, KeyboardInterrupt):  # the harness has ended
        uvloop.run(_obey(control, port, server_port))


async def _obey(control: Connection, port: int, server_port: int) -> None:
    proxy = Proxy(port, server_port)
    server = await proxy.start()
    ended = asyncio.get_running_loop().create_future()

    def obey() -> None:
        try:
            proxy.switch(control.recv())
            control.send(None)
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(control.fileno())
            ended.set_result(None)

    asyncio.get_running_loop().add_reader(control.fileno(), obey)
    control.send(None)
    await ended
    for link in list(proxy.links):
        link.reset()
    server.close()
