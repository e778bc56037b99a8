"""A process of its own that verifies signatures: asked and answered through a socket, and gone when the worker is, however that ends.

A question is the number of its items and then the items, each after its length, numbers as 4 bytes big-endian: a public key, a signature
and what was signed, or nothing. An answer is a byte an item, 1 where the signature holds, in the order of the questions.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from worker.signatures import is_good

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.signing_keys import Proof

_PUBLIC_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_SIGNED: Final = _PUBLIC_KEY_BYTES + _SIGNATURE_BYTES
_ON_THE_WAY_BYTES: Final = 2**20  # asked for; the system may give less


class ProcessGoneError(Exception):
    """The process ended, killed or out of memory; its questions have no answer."""


class Verifying(Protocol):
    """Whoever is asked whether proofs hold."""

    @property
    def is_gone(self) -> bool: ...

    def ask(self, proofs: Sequence[Proof | None]) -> asyncio.Future[list[bool]]:
        """The answer, later: for each proof whether it holds; ProcessGoneError where none comes."""

    def close(self) -> None:
        """Leave what was asked without an answer."""


class SignatureProcess(asyncio.Protocol):
    """This worker's end of the socket. Used in one event loop."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.is_gone = False
        self._process = process
        self._transport: asyncio.WriteTransport | None = None
        self._asked: deque[tuple[int, asyncio.Future[list[bool]]]] = deque()
        self._answers = bytearray()

    def ask(self, proofs: Sequence[Proof | None]) -> asyncio.Future[list[bool]]:
        answer: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        if self._transport is None or self.is_gone:
            answer.set_exception(ProcessGoneError())
            return answer
        self._asked.append((len(proofs), answer))
        self._transport.write(question(proofs))
        return answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own are not asyncio's by class

    def data_received(self, data: bytes) -> None:
        self._answers += data
        while self._asked and len(self._answers) >= self._asked[0][0]:
            count, answer = self._asked.popleft()
            if not answer.done():  # its batch may have been given up
                answer.set_result([byte == 1 for byte in self._answers[:count]])
            del self._answers[:count]

    def connection_lost(self, _: Exception | None) -> None:
        self.is_gone = True
        self._process.kill()
        self._process.wait()
        for _count, answer in self._asked:
            if not answer.done():
                answer.set_exception(ProcessGoneError())
                answer.exception()  # heard, also where nobody waits for it
        self._asked.clear()


async def start_signature_process() -> SignatureProcess:
    """Raises OSError where no process can be started."""
    ours, its = socket.socketpair()
    for end in (ours, its):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ON_THE_WAY_BYTES)
    found_where_we_are = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # and not in whatever directory this is
    command = [sys.executable, "-P", "-m", __name__]
    with its:  # it ends with the socket, and so with us
        process = subprocess.Popen(command, stdin=its.fileno(), stdout=its.fileno(), env=found_where_we_are)  # noqa: ASYNC220, S603
    _, ends = await asyncio.get_running_loop().create_connection(lambda: SignatureProcess(process), sock=ours)
    return ends


def question(proofs: Sequence[Proof | None]) -> bytes:
    items = [b"" if proof is None or not _has_sizes(proof) else b"".join(proof) for proof in proofs]
    return b"".join([_number(len(items)), *(part for item in items for part in (_number(len(item)), item))])


def _has_sizes(proof: Proof) -> bool:
    """Those of Ed25519: a signature of another size holds for nothing."""
    return len(proof.public_key) == _PUBLIC_KEY_BYTES and len(proof.signature) == _SIGNATURE_BYTES


def answer_all(questions: BinaryIO, answers: BinaryIO) -> None:
    """Until there are no more."""
    while number := questions.read(4):
        items = [questions.read(int.from_bytes(questions.read(4))) for _ in range(int.from_bytes(number))]
        answers.write(bytes(_holds(item) for item in items))
        answers.flush()


def _holds(item: bytes) -> bool:
    return item != b"" and is_good(item[:_PUBLIC_KEY_BYTES], item[_PUBLIC_KEY_BYTES:_SIGNED], item[_SIGNED:])


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")


if __name__ == "__main__":
    for signal_number in (signal.SIGINT, signal.SIGTERM):  # sent to all of a terminal or a container; the worker finishes what it has
        signal.signal(signal_number, signal.SIG_IGN)
    answer_all(sys.stdin.buffer, sys.stdout.buffer)
