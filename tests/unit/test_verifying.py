"""Signatures verified before and in a batch: the same results, whatever was expected, changed, never came or was killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec

import psutil
import pytest
import uvloop

from tests.support.keys import key_of, signed
from tests.support.records import Topic, window
from worker import verifying
from worker.signature_process import SignatureProcess, answer_all, question, start_signature_process
from worker.signatures import Signer
from worker.signing_keys import Proof, claim_of, proof_of
from worker.verifying import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from worker.envelope import Record
    from worker.signing_keys import Key

P = ParamSpec("P")

SIGNER, OTHER = Signer.generate(), Signer.generate()
KEYS = {SIGNER.key_id: key_of(SIGNER)}


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        uvloop.run(test(*args, **kwargs))  # as the worker does

    return run


def records(count: int) -> list[Record]:
    """Every third one has a signature that is none."""
    topic = Topic()
    good = [signed(topic.append(window(number)), SIGNER) for number in range(count)]
    forged = [("ce_signature", b"A" * 86)]
    return [record._replace(headers=[*record.headers[:-1], *forged]) if n % 3 == 1 else record for n, record in enumerate(good)]


def results(count: int) -> list[bool]:
    return [number % 3 != 1 for number in range(count)]


class Beside:
    """A real process, and how many signatures it was asked about, question by question."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.started: list[SignatureProcess] = []

    async def start(self) -> Beside:
        self.started.append(await start_signature_process())
        return self

    @property
    def is_gone(self) -> bool:
        return self.started[-1].is_gone

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.started[-1]._process

    def close(self) -> None:
        self.started[-1].close()

    def ask(self, proofs: Sequence[Proof | None]) -> asyncio.Future[list[bool]]:
        self.asked.append(len(proofs))
        return self.started[-1].ask(proofs)


async def verified(verifier: Verifier, batch: Sequence[Record], keys: Mapping[str, Key] = KEYS) -> list[bool]:
    return await verifier.verified(batch, [claim_of(record) for record in batch], keys)


@asynccontextmanager
async def warm() -> AsyncIterator[tuple[Verifier, Beside]]:
    """A verifier that has its process; nothing of that is counted."""
    beside = Beside()
    verifier = Verifier(beside.start)
    try:
        await verified(verifier, records(32))
        beside.asked.clear()
        yield verifier, beside
    finally:
        for process in beside.started:
            process.close()
            await asyncio.sleep(0)


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100])
@in_a_loop
async def test_results_are_in_the_order_of_the_records(count: int) -> None:
    async with warm() as (verifier, _):
        assert await verified(verifier, records(count)) == results(count)


@in_a_loop
async def test_the_process_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the worker, because it found none."""
    async with warm() as (verifier, beside):
        monkeypatch.setattr(verifying, "verify", list)
        assert await verified(verifier, records(96)) == results(96)
        assert (beside.asked, beside.is_gone, len(beside.started)) == ([32, 32, 32], False, 1)


@in_a_loop
async def test_a_quiet_worker_needs_no_process() -> None:
    beside = Beside()
    verifier = Verifier(beside.start)
    for record in records(40):
        verifier.expect(record, KEYS)
        await verified(verifier, [record])
    assert beside.started == []


@in_a_loop
async def test_batches_that_come_at_once_share_a_process() -> None:
    async with warm() as (_, beside):
        verifier = Verifier(beside.start)
        beside.started.pop().close()
        assert await asyncio.gather(*(verified(verifier, records(64)) for _ in range(3))) == [results(64)] * 3
        assert len(beside.started) == 1


@in_a_loop
async def test_what_was_expected_is_verified_once() -> None:
    async with warm() as (verifier, beside):
        batch = records(100)
        for record in batch:
            verifier.expect(record, KEYS)
        assert await verified(verifier, batch) == results(100)
        assert beside.asked == [32, 32, 32]


@in_a_loop
async def test_what_is_quiet_is_not_verified_again_when_more_comes() -> None:
    async with warm() as (verifier, beside):
        for record in records(40):
            verifier.expect(record, KEYS)
            await verified(verifier, [record])
        assert beside.asked == []


@in_a_loop
async def test_a_record_that_is_equal_is_not_the_one_that_was_verified() -> None:
    async with warm() as (verifier, _):
        batch = records(32)
        for record in batch:
            verifier.expect(record, KEYS)
        others = [record._replace(headers=list(record.headers)) for record in batch]
        assert await verified(verifier, others) == results(32)
        changed = [record._replace(value=(record.value or b"")[:-1]) for record in batch]
        assert await verified(verifier, changed) == [False] * 32


@in_a_loop
async def test_with_another_key_of_its_id_by_then_it_is_verified_anew() -> None:
    async with warm() as (verifier, _):
        batch = records(32)
        for record in batch:
            verifier.expect(record, KEYS)
        another = {SIGNER.key_id: replace(KEYS[SIGNER.key_id], public_key=OTHER.public_key)}
        assert await verified(verifier, batch, another) == [False] * 32
        for record in batch:
            verifier.expect(record, another)
        assert await verified(verifier, batch) == results(32)


@in_a_loop
async def test_a_key_that_is_known_only_by_then_counts() -> None:
    async with warm() as (verifier, _):
        batch = records(32)
        for record in batch:
            verifier.expect(record, {})
        assert await verified(verifier, batch) == results(32)
        for record in batch:
            verifier.expect(record, KEYS)
        assert await verified(verifier, batch, {}) == [False] * 32


@in_a_loop
async def test_records_that_never_come_to_a_batch_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_MOST_AHEAD", 64)
    async with warm() as (verifier, _):
        for record in records(320):
            verifier.expect(record, KEYS)
        assert len(verifier._ahead) <= 96


@in_a_loop
async def test_large_records_and_those_without_headers_are_not_held() -> None:
    async with warm() as (verifier, beside):
        large = [record._replace(value=b"x" * 5_000) for record in records(40)]
        unsigned = [record._replace(headers=()) for record in records(40)]
        for record in (*large, *unsigned):
            verifier.expect(record, KEYS)
        assert (verifier._coming, verifier._ahead) == ([], {})
        assert await verified(verifier, large) == [False] * 40
        assert beside.asked == []
        assert await verified(verifier, unsigned) == [False] * 40


@in_a_loop
async def test_killed_in_the_middle_its_work_is_done_here_and_another_is_started(caplog: pytest.LogCaptureFixture) -> None:
    async with warm() as (verifier, beside):
        batch = records(200)
        for record in batch:
            verifier.expect(record, KEYS)
        beside.process.kill()
        assert await verified(verifier, batch) == results(200)
        assert await verified(verifier, records(64)) == results(64)
        assert [len(beside.started), beside.is_gone] == [2, False]
        assert [line.getMessage() for line in caplog.records] == ["the process that verifies signatures is gone; another one is started"]


@in_a_loop
async def test_a_process_that_is_paused_is_as_good_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_ANSWER_SECONDS", 0.5)
    async with warm() as (verifier, beside):
        beside.process.send_signal(signal.SIGSTOP)
        assert await verified(verifier, records(64)) == results(64)
        assert await verified(verifier, records(64)) == results(64)
        assert len(beside.started) == 2


@in_a_loop
async def test_a_batch_that_is_given_up_takes_nothing_from_another() -> None:
    """Not the answers that both wait for, and it shifts none of the later ones."""
    async with warm() as (verifier, beside):
        beside.process.send_signal(signal.SIGSTOP)
        both = records(32)
        for record in both:
            verifier.expect(record, KEYS)
        given_up, kept = (asyncio.create_task(verified(verifier, half)) for half in (both[:16], both[16:]))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        beside.process.send_signal(signal.SIGCONT)
        assert await kept == results(32)[16:]
        assert await verified(verifier, records(64)[1:]) == results(64)[1:]
        assert (given_up.cancelled(), len(beside.started)) == (True, 1)


@in_a_loop
async def test_it_is_gone_when_its_worker_is() -> None:
    async with warm() as (_, beside):
        pid = beside.process.pid
        beside.started[-1].close()
        await asyncio.sleep(0)
        assert beside.is_gone
        assert not psutil.pid_exists(pid)


_ASKER = """
import asyncio
from worker.signature_process import start_signature_process

async def main():
    process = await start_signature_process()
    print(process._process.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_it_is_gone_when_its_worker_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _ASKER], stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdout is not None
        process = psutil.Process(int(asker.stdout.readline()))
        asker.kill()
        process.wait(30)


def proofs_of(batch: Sequence[Record]) -> list[Proof | None]:
    return [proof_of(claim_of(record), record, KEYS) for record in batch]


def answered(proofs: Sequence[Proof | None]) -> list[bool]:
    answers = BytesIO()
    answer_all(BytesIO(question(proofs)), answers)
    return [byte == 1 for byte in answers.getvalue()]


def test_what_is_no_proof_holds_for_nothing() -> None:
    assert answered([None, *proofs_of(records(3)), None]) == [False, True, False, True, False]


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_a_signature_of_another_size_holds_for_nothing(size: int) -> None:
    """Also not where it and what was signed would make, in one piece, the signature of something else."""
    [proof] = proofs_of(records(1))
    assert proof is not None
    joined = proof.signature + proof.signed
    assert answered([proof._replace(signature=joined[:size], signed=joined[size:]), proof]) == [False, True]
