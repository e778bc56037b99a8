"""All checks of the doctor, in their order: from the settings outwards, each with those that it needs."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from worker.doctor import bus, clocks, database, replication, rights, roles, surroundings
from worker.doctor.examination import Check
from worker.doctor.finding import fail, ok, warn
from worker.errors import SettingsError
from worker.postgres.maintenance_timer import retention_of
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import SecretStr

    from worker.doctor.clocks import Now
    from worker.doctor.finding import Finding

WRONG = fail("{why}", "set it (docs/settings.md); sre-domain config shows where each value comes from")
UNKNOWN = warn("{name} is no setting", "see how it is spelt in docs/settings.md; nothing reads it")
COMPLETE = ok("complete, and none that is unknown")


def the_clock() -> datetime:
    return datetime.now(UTC)


def checks(unknown_variables: Sequence[str], now: Now = the_clock) -> tuple[Check, ...]:
    """For the settings of the environment; without them only the settings can be spoken about."""
    about_settings = Check("settings", partial(check_settings, unknown_variables))
    try:
        settings = Settings.from_environment()
    except SettingsError:
        return (about_settings,)
    dsn, slot = settings.writer_dsn, settings.relay_slot
    relay, reader, owner = map(_given, (settings.relay_database_url, settings.query_database_url, settings.migrate_database_url))
    on_postgres, on_schema, on_kafka = ("database",), ("database", "migrations"), ("kafka",)
    return (
        about_settings,
        Check("database", partial(database.check_server, dsn)),
        Check("roles", partial(roles.check_roles, dsn), on_postgres),
        Check("login of the worker", partial(roles.check_writer, dsn), on_postgres),
        Check("login of the relay", partial(roles.check_relay, relay), on_postgres),
        Check("login of readers", partial(roles.check_reader, reader), on_postgres),
        Check("login of migrations", partial(roles.check_owner, owner), on_postgres),
        Check("migrations", partial(database.check_migrations, dsn), on_postgres),
        Check("row security", partial(database.check_row_security, dsn), on_schema),
        Check("partitions", partial(database.check_partitions, dsn, retention_of(settings).days(), now()), on_schema),
        Check("publication", partial(replication.check_publication, dsn), on_schema),
        Check("slot", partial(replication.check_slot, dsn, slot), on_postgres),
        Check("kept WAL", partial(replication.check_wal_limit, dsn, slot), on_postgres),
        Check("clock and PostgreSQL", partial(clocks.check_postgres_clock, dsn, now), on_postgres),
        Check("signatures", partial(surroundings.check_signatures, dsn, settings), on_schema),
        Check("kafka", partial(bus.check_kafka, settings)),
        Check("topics", partial(bus.check_topics, settings), on_kafka),
        Check("settings of topics", partial(bus.check_topic_settings, settings, settings.inbox_retention_days), ("kafka", "topics")),
        Check("rights at the brokers", partial(rights.check_rights, settings), on_kafka),
        Check("clock and Kafka", partial(clocks.check_kafka_clock, settings, now), on_kafka),
        Check("schema registry", partial(surroundings.check_registry, settings.schema_registry_url)),
        Check("health address", partial(surroundings.check_health_address, settings.health_address)),
    )


def check_settings(unknown_variables: Sequence[str]) -> Iterator[Finding]:
    try:
        Settings.from_environment()
    except SettingsError as error:
        faults = [WRONG.of(why=why) for why in str(error).split("; ")]
    else:
        faults = []
    faults += [UNKNOWN.of(name=name) for name in unknown_variables]
    yield from faults or [COMPLETE.of()]


def _given(url: SecretStr | None) -> str | None:
    return None if url is None else url.get_secret_value()
