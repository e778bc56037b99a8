"""Count the open incidents of each service, in SQLite: a projection of the incident facts. docs/projection.md explains it.

Kill it whenever you like: what it stores and how far it has read are one transaction, so the next run goes on where this one was.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
from typing import TYPE_CHECKING

from worker.client import FactReader, ReceivedFact
from worker.domain.incident_messages import IncidentClosed, IncidentCreated, IncidentResolved, IncidentsMerged, IncidentStatusChanged
from worker.errors import WorkerError
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TABLES = """
CREATE TABLE IF NOT EXISTS incident (tenant, id, open, PRIMARY KEY (tenant, id));
CREATE TABLE IF NOT EXISTS affected (tenant, id, service, PRIMARY KEY (tenant, id, service));
CREATE TABLE IF NOT EXISTS applied (tenant, aggregate, id, version, PRIMARY KEY (tenant, aggregate, id));
CREATE TABLE IF NOT EXISTS position (topic, partition, next_offset, PRIMARY KEY (topic, partition));
"""
COUNTS = "SELECT tenant, service, count(*) FROM incident JOIN affected USING (tenant, id) WHERE open GROUP BY 1, 2 ORDER BY 1, 2"


class OpenIncidents:
    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path)
        self.database.executescript(TABLES)

    def next_offset(self, topic: str, partition: int) -> int | None:
        row = self.database.execute("SELECT next_offset FROM position WHERE (topic, partition) = (?, ?)", (topic, partition)).fetchone()
        return None if row is None else int(row[0])

    def last_version(self, *aggregate: str) -> int:
        row = self.database.execute("SELECT version FROM applied WHERE (tenant, aggregate, id) = (?, ?, ?)", aggregate).fetchone()
        return 0 if row is None else int(row[0])

    def apply(self, facts: Iterable[ReceivedFact]) -> None:
        with self.database as transaction:  # all of it or, if we are killed here, nothing
            for fact in facts:
                self.change((fact.tenant_id, fact.aggregate_id), fact.fact)
                applied = (fact.tenant_id, fact.aggregate, fact.aggregate_id, fact.version)
                transaction.execute("INSERT OR REPLACE INTO applied VALUES (?, ?, ?, ?)", applied)
                transaction.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", (fact.topic, fact.partition, fact.offset + 1))

    def change(self, incident: tuple[str, str], fact: object) -> None:
        match fact:
            case IncidentCreated():
                self.database.execute("INSERT INTO incident VALUES (?, ?, TRUE)", incident)
            case IncidentResolved() | IncidentClosed():
                self.database.execute("UPDATE incident SET open = FALSE WHERE (tenant, id) = (?, ?)", incident)
            case IncidentStatusChanged():  # to investigating or mitigating, out of resolved too
                self.database.execute("UPDATE incident SET open = TRUE WHERE (tenant, id) = (?, ?)", incident)
        if isinstance(fact, IncidentCreated | IncidentsMerged):  # a merge hands the survivor everybody's resources
            services = {service_of(ref) for ref in fact.affected_resources}
            self.database.executemany("INSERT OR IGNORE INTO affected VALUES (?, ?, ?)", [(*incident, service) for service in services])

    def counts(self) -> Iterator[str]:
        for tenant, service, count in self.database.execute(COUNTS):
            yield json.dumps({"tenant": tenant, "service": service, "open": count})


def service_of(ref: str) -> str:
    """The app of cluster/namespace/app/pod, or the nearest level above that the ref names."""
    return next(level for level in reversed(ref.split("/")[:3]) if level != "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="a Kafka broker, host:port")
    parser.add_argument("--database", required=True, help="SQLite file, made where there is none")
    parser.add_argument("--follow", action="store_true", help="print the counts after each change, until Ctrl-C; else once")
    arguments = parser.parse_args()
    incidents = OpenIncidents(arguments.database)
    reader = FactReader(KafkaSettings(kafka_bootstrap_servers=arguments.bootstrap), ["incident"], incidents)
    signal.signal(signal.SIGINT, lambda *_: reader.stop())
    signal.signal(signal.SIGTERM, lambda *_: reader.stop())
    try:
        for facts in reader.follow() if arguments.follow else reader.catch_up():
            incidents.apply(facts)
            if arguments.follow:
                print(*incidents.counts(), "", sep="\n", flush=True)
    except WorkerError as error:
        sys.exit(f"open_incidents: {error}")
    if not arguments.follow:
        print(*incidents.counts(), sep="\n")


if __name__ == "__main__":
    main()
