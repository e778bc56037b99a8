"""Times as people give them to a command."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from worker.domain.fields import parse_rfc3339


def time_or_now(text: str | None, option: str) -> datetime:
    """Raises typer.BadParameter, which names the option, where the text is no RFC 3339 time."""
    return datetime.now(UTC) if text is None else parsed_time(text, option)


def parsed_time(text: str, option: str) -> datetime:
    """Raises typer.BadParameter, as time_or_now() does."""
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise typer.BadParameter("must be an RFC 3339 time, such as 2026-03-02T12:00:00Z", param_hint=option) from None
