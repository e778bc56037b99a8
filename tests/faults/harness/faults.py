"""The faults themselves: each is brought about, lasts as long as it is to, and is undone."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg

from tests.faults.harness.proxy import Mode, Way
from tests.faults.harness.schedule import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.faults.harness.cluster import Cluster, Member
    from tests.faults.harness.load import Load
    from tests.faults.harness.proxy import RunningProxy
    from tests.faults.harness.schedule import Fault

_STORM_PAUSE_SECONDS: Final = 0.8
_FILL_BYTES: Final = 1_048_576


def inject(cluster: Cluster, load: Load, fault: Fault) -> None:
    """Return when the fault is over."""
    _INJECTORS[fault.kind](cluster, load, fault)


def _kill(command: str) -> Callable[[Cluster, Load, Fault], None]:
    def kill(cluster: Cluster, _load: Load, fault: Fault) -> None:
        member = cluster.of(command)[fault.victim]
        with member.lock:
            cluster.kill(member, fault.seconds)

    return kill


def _pause(command: str) -> Callable[[Cluster, Load, Fault], None]:
    def pause(cluster: Cluster, _load: Load, fault: Fault) -> None:
        _stop_and_continue(cluster.of(command)[fault.victim], fault.seconds)

    return pause


def _terminate(command: str) -> Callable[[Cluster, Load, Fault], None]:
    def terminate(cluster: Cluster, _load: Load, fault: Fault) -> None:
        member = cluster.of(command)[fault.victim]
        with member.lock:
            cluster.terminate(member)

    return terminate


def _kill_active_relay(cluster: Cluster, _load: Load, fault: Fault) -> None:
    member = active_relay(cluster) or cluster.of("relay")[fault.victim]
    with member.lock:
        cluster.kill(member, fault.seconds)


def _pause_active_relay(cluster: Cluster, _load: Load, fault: Fault) -> None:
    _stop_and_continue(active_relay(cluster) or cluster.of("relay")[fault.victim], fault.seconds)


def _stop_and_continue(member: Member, seconds: float) -> None:
    with member.lock:
        process = member.running
        if process is not None:
            process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            process.send_signal(signal.SIGCONT)


def active_relay(cluster: Cluster) -> Member | None:
    """The relay whose log tells last of all that it streams; None where none has so far."""
    said = {}
    for member in cluster.of("relay"):
        lines = member.log.read_bytes().splitlines() if member.log.exists() else []
        told = [line for line in lines if b"relaying from slot" in line]
        if told and member.running is not None:
            said[member.name] = (told[-1], member)
    return max(said.values(), key=lambda pair: pair[0])[1] if said else None


def _storm(cluster: Cluster, _load: Load, fault: Fault) -> None:
    """Workers come and go faster than the group settles."""
    until = time.monotonic() + fault.seconds
    victim = fault.victim
    while time.monotonic() < until:
        member = cluster.of("worker")[victim]
        with member.lock:
            cluster.terminate(member)
        time.sleep(_STORM_PAUSE_SECONDS)
        victim = 1 - victim


def _proxied(proxy_of: Callable[[Cluster], RunningProxy], way: Way) -> Callable[[Cluster, Load, Fault], None]:
    def fail(cluster: Cluster, _load: Load, fault: Fault) -> None:
        proxy = proxy_of(cluster)
        with proxy.lock:
            proxy.switch(Mode(way=way, seconds=fault.amount, size=int(fault.amount)))
            time.sleep(fault.seconds)
            proxy.switch(Mode())

    return fail


def _kafka(stop: Callable[[Cluster], None]) -> Callable[[Cluster, Load, Fault], None]:
    def restart(cluster: Cluster, _load: Load, fault: Fault) -> None:
        with cluster.kafka_lock:
            stop(cluster)
            time.sleep(fault.seconds)
            cluster.start_kafka()

    return restart


def _postgres(stop: Callable[[Cluster], None]) -> Callable[[Cluster, Load, Fault], None]:
    def restart(cluster: Cluster, _load: Load, fault: Fault) -> None:
        with cluster.postgres_lock:
            stop(cluster)
            time.sleep(fault.seconds)
            cluster.start_postgres()

    return restart


def _disk_full(cluster: Cluster, _load: Load, fault: Fault) -> None:
    """The disk is kept full for a while; a PostgreSQL that has ended over it is started once there is room."""
    disk = cluster.postgres_disk
    if disk is None:
        return
    filler = disk / "filler"
    with cluster.postgres_lock:
        until = time.monotonic() + fault.seconds
        try:
            with filler.open("wb", buffering=0) as file:
                while time.monotonic() < until:
                    with suppress(OSError):
                        while True:
                            file.write(bytes(_FILL_BYTES))
                    with suppress(OSError):
                        file.write(bytes(4096))
                    _write_much(cluster)
                    time.sleep(0.05)
        finally:
            filler.unlink(missing_ok=True)
        if cluster.postgres.process.poll() is not None:
            cluster.exits["PostgreSQL, its disk full"] += 1
            cluster.start_postgres()


def _write_much(cluster: Cluster) -> None:
    """WAL of no use, so that the room that is left within files is used up too."""
    with suppress(psycopg.Error), psycopg.connect(cluster.settings.writer_dsn, connect_timeout=2, autocommit=True) as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'harness', repeat('x', 4000000))")


def _trick(_cluster: Cluster, load: Load, fault: Fault) -> None:
    load.play(fault.kind, int(fault.amount))


def _kafka_proxy(cluster: Cluster) -> RunningProxy:
    return cluster.kafka_proxy


def _postgres_proxy(cluster: Cluster) -> RunningProxy:
    return cluster.postgres_proxy


_INJECTORS: Final[Mapping[Kind, Callable[[Cluster, Load, Fault], None]]] = {
    Kind.KILL_WORKER: _kill("worker"),
    Kind.KILL_RELAY: _kill("relay"),
    Kind.KILL_ACTIVE_RELAY: _kill_active_relay,
    Kind.PAUSE_WORKER: _pause("worker"),
    Kind.PAUSE_RELAY: _pause("relay"),
    Kind.PAUSE_ACTIVE_RELAY: _pause_active_relay,
    Kind.TERM_WORKER: _terminate("worker"),
    Kind.TERM_RELAY: _terminate("relay"),
    Kind.REBALANCE_STORM: _storm,
    Kind.KAFKA_LATENCY: _proxied(_kafka_proxy, Way.LATENCY),
    Kind.KAFKA_BLACKHOLE: _proxied(_kafka_proxy, Way.BLACKHOLE),
    Kind.KAFKA_RESET: _proxied(_kafka_proxy, Way.RESET),
    Kind.KAFKA_CUT: _proxied(_kafka_proxy, Way.CUT),
    Kind.KAFKA_RESTART: _kafka(lambda cluster: cluster.stop_kafka()),
    Kind.KAFKA_KILL: _kafka(lambda cluster: cluster.kill_kafka()),
    Kind.POSTGRES_LATENCY: _proxied(_postgres_proxy, Way.LATENCY),
    Kind.POSTGRES_BLACKHOLE: _proxied(_postgres_proxy, Way.BLACKHOLE),
    Kind.POSTGRES_RESET: _proxied(_postgres_proxy, Way.RESET),
    Kind.POSTGRES_CUT: _proxied(_postgres_proxy, Way.CUT),
    Kind.POSTGRES_RESTART: _postgres(lambda cluster: cluster.stop_postgres()),
    Kind.POSTGRES_KILL: _postgres(lambda cluster: cluster.kill_postgres()),
    Kind.DISK_FULL: _disk_full,
    Kind.DUPLICATE_PUBLISHING: _trick,
    Kind.REORDERED_PUBLISHING: _trick,
    Kind.POISON: _trick,
    Kind.CLOCK_SKEW: _trick,
}
