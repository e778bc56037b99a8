"""`sre-domain schemas`: our schemas in a schema registry, and whether they still read what was written with released ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import typer

from worker.codec import current_schemas
from worker.errors import SettingsError
from worker.logs import only_errors_of_ours
from worker.registry import LEVEL, Registry, SchemaRefusedError, writer_of
from worker.schema_changes import breaking_changes_since_release, comparable, releases
from worker.settings import RegistrySettings, variable
from worker.subjects import TOPIC_OF_RECORD, subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.codec import Schema
    from worker.registry import Registered

BROKEN: Final = 1

app = typer.Typer(no_args_is_help=True)


@app.callback()
def schemas() -> None:
    """Keep a schema registry, and the schemas themselves, as readers of old records need them."""


@app.command()
def register() -> None:
    """Have every schema of this version in the registry of SRE_SCHEMA_REGISTRY_URL. Can be run again, and then does nothing.

    Subjects are TOPIC-RECORD (TopicRecordNameStrategy), with compatibility BACKWARD_TRANSITIVE. Left with status 1 where the registry
    refuses some, which are named; the others are registered.
    """
    only_errors_of_ours()
    registry = _registry()
    refused = False
    counts = {"registered": 0, "there": 0}
    for record, schema in _messages():
        subject = subject_of(record)
        versions = list(registry.versions(subject))
        if versions:
            _set_level(registry, subject)  # before, so that the registry holds the new version against it
        if _same(schema, versions):
            counts["there"] += 1
        else:
            try:
                schema_id = registry.register(subject, json.dumps(schema))
            except SchemaRefusedError as error:
                refused = True
                typer.echo(f"{subject}: {error}", err=True)
                continue
            counts["registered"] += 1
            typer.echo(f"{subject}: registered with id {schema_id}")
        if not versions:
            _set_level(registry, subject)
    typer.echo(f"{counts['registered']} registered, {counts['there']} were there")
    if refused:
        raise typer.Exit(BROKEN)


@app.command()
def check() -> None:
    """Hold this version's schemas against every released one, and against the registry where SRE_SCHEMA_REGISTRY_URL is set.

    Left with status 1 where a record of an earlier version could not be read any more, which is named.
    """
    only_errors_of_ours()
    faults = list(breaking_changes_since_release())
    settings = RegistrySettings.from_environment()
    if settings.schema_registry_url is not None:
        faults += _refused_by(Registry(settings))
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        raise typer.Exit(BROKEN)
    against = "the releases " + ", ".join(releases())
    if settings.schema_registry_url is not None:
        against += " and the registry"
    typer.echo(f"{len(TOPIC_OF_RECORD)} messages read whatever was written: held against {against}")


def _messages() -> Iterator[tuple[str, Schema]]:
    """Parts of messages are written out in them, since a registry's references are what clients and registries differ in."""
    for record, schema in current_schemas().items():
        if record in TOPIC_OF_RECORD:
            yield record, schema


def _registry() -> Registry:
    settings = RegistrySettings.from_environment()
    if settings.schema_registry_url is None:
        raise SettingsError(f"{variable('schema_registry_url')}: Field required")
    return Registry(settings)


def _same(schema: Schema, versions: list[Registered]) -> bool:
    """Whether one of them says the same, whatever its descriptions."""
    texts = [version.text for version in versions if writer_of(version.text) is not None]
    return comparable(schema) in [comparable(json.loads(text)) for text in texts]


def _set_level(registry: Registry, subject: str) -> None:
    if registry.level(subject) != LEVEL:
        registry.set_level(subject)
        typer.echo(f"{subject}: compatibility set to {LEVEL}")


def _refused_by(registry: Registry) -> Iterator[str]:
    for record, schema in _messages():
        subject = subject_of(record)
        if next(registry.versions(subject), None) is None:
            yield f"{subject}: the registry does not know it: sre-domain schemas register"
        elif registry.level(subject) != LEVEL:
            yield f"{subject}: its compatibility is not {LEVEL}: sre-domain schemas register"
        elif not registry.accepts(subject, json.dumps(schema)):
            yield f"{subject}: the registry would refuse this version's schema: it does not read what an earlier one wrote"
