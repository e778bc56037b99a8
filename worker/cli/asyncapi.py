"""`sre-domain asyncapi`: the contract of the bus for tools that read AsyncAPI."""

from __future__ import annotations

import json

import typer

from worker.asyncapi import asyncapi_document


def asyncapi() -> None:
    """Print the bus as an AsyncAPI 3.0 document: channels, headers, and every message with its Avro schema."""
    typer.echo(json.dumps(asyncapi_document(), indent=2, ensure_ascii=False))
