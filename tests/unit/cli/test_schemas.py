"""`sre-domain schemas` without a registry: what is checked, and what is asked for."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from worker import schema_changes
from worker.cli.schemas import app
from worker.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SRE_SCHEMA_REGISTRY_URL", raising=False)


def test_schemas_are_held_against_the_releases() -> None:
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 0, done.output
    assert "held against the releases 0.1.0" in done.output


def test_a_change_that_old_records_would_not_survive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(schema_changes.HISTORY, tmp_path / "history")
    monkeypatch.setattr(schema_changes, "HISTORY", tmp_path / "history")
    (released,) = (tmp_path / "history" / "SLOBudgetExhausted").glob("*.avsc")
    released.write_text(released.read_text().replace('"budget_consumed"', '"consumed"'))
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 1
    assert f"SLOBudgetExhausted.budget.consumed was removed, renamed or moved (since SLOBudgetExhausted/{released.stem})" in done.output


def test_registering_asks_for_a_registry() -> None:
    with pytest.raises(SettingsError, match="SRE_SCHEMA_REGISTRY_URL"):
        CliRunner().invoke(app, ["register"], catch_exceptions=False)
