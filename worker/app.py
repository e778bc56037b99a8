"""The composition root of the worker: the only module that knows the real Kafka, the real PostgreSQL and the real clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import faust

from worker.agents import take_intents
from worker.authentication import Authentication
from worker.domain.aggregate import AGGREGATES, Aggregate
from worker.faust_credentials import credentials
from worker.holding import Asker, decide_and_hold
from worker.lenient_records import read_any_header_name
from worker.light_faust import RawSchema, lighten
from worker.pipeline import Intake
from worker.postgres.connection import UnitOpener
from worker.postgres.key_ring import KeyRing
from worker.postgres.storages import STORAGES
from worker.recovery import process_reliably
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.emission import Emitter
    from worker.pipeline import Batch
    from worker.registry import WriterIds
    from worker.settings import Settings
    from worker.signs import Signs


_POLLED_RECORDS: Final = 2_000  # made at a time of a fetch, whose bytes are a fifth of their size; without a limit, of all that was fetched


def build_worker(
    settings: Settings, emitter: Emitter, ids: WriterIds | None, scratch: Path, signs: Signs, tell: Callable[[Batch], None] | None = None
) -> faust.App:
    """One agent for each aggregate's intents; `ids` are asked about where there is a schema registry, `tell` hears of batches."""
    decide = None if ids is None else partial(decide_and_hold, ask=Asker(ids, signs).ask)
    app = build_faust_app(settings, scratch)
    lighten(app)
    read_any_header_name()
    authentication = build_authentication(settings, signs)
    for aggregate in AGGREGATES.values():
        intake = build_intake(settings, aggregate, emitter, authentication, tell)
        process = partial(process_reliably, intake=intake, signs=signs)
        expect = None if authentication is None else authentication.expect
        take = partial(take_intents, process=process, max_intents=settings.batch_max_intents, expect=expect, decide=decide)
        topic = app.topic(intents_topic(aggregate.name), schema=RawSchema())
        # Concurrency 1, since Faust commits past gaps with more.
        app.agent(topic, name=f"{aggregate.name}_intents", concurrency=1)(take)
    return app


def build_faust_app(settings: Settings, scratch: Path) -> faust.App:
    """Faust, told to do nothing but consume; it insists on a directory for tables that it does not have."""
    return faust.App(
        settings.consumer_group,
        broker=[f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=credentials(settings),
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 4,
        broker_max_poll_records=_POLLED_RECORDS,
        consumer_auto_offset_reset="earliest",
        processing_guarantee="at_least_once",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        store="memory://",
        datadir=scratch,
    )


def build_authentication(settings: Settings, signs: Signs) -> Authentication | None:
    if settings.signatures == "off":
        return None
    return Authentication(KeyRing(settings.writer_dsn).keys_now, settings.signatures == "warn", signs.unsigned)


def build_intake(
    settings: Settings,
    aggregate: Aggregate,
    emitter: Emitter,
    authentication: Authentication | None = None,
    tell: Callable[[Batch], None] | None = None,
) -> Intake:
    return Intake(
        topic=intents_topic(aggregate.name),
        aggregate=aggregate,
        emitter=emitter,
        open_unit=UnitOpener(settings.writer_dsn, STORAGES),
        now=partial(datetime.now, UTC),
        inbox_retention=timedelta(days=settings.inbox_retention_days),
        authentication=authentication,
        tell=tell,
    )
