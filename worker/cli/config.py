"""`sre-domain config`: what the settings are and where each came from, without a secret; status 2: some are missing or wrong."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from pydantic import SecretStr
from pydantic_settings import EnvSettingsSource, SecretsSettingsSource

from worker.errors import SettingsError
from worker.printable import printable
from worker.settings import PREFIX, SECRETS_DIR, BridgeSettings, Settings, secrets_directory, variable

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.fields import FieldInfo

WRONG: Final = 2
_MASK: Final = "***"
_WRONG: Final = "(missing or wrong)"  # and not shown: it may be a secret that was meant for another
_CLASSES: Final = (Settings, BridgeSettings)
_FIELDS: Final[dict[str, FieldInfo]] = {name: field for settings in _CLASSES for name, field in settings.model_fields.items()}
_URLS: Final = ("kafka_bootstrap_servers", "kafka_oauth_token_url", "schema_registry_url")
_USER_INFO: Final = re.compile(r"(\w+://)?[^\s,]*@")
_HIDDEN: Final = frozenset(option.keyword.decode() for option in Conninfo.get_defaults() if option.dispchar == b"*")


@dataclass(frozen=True, slots=True)
class Setting:
    """`value` is None for one that is not set and has no default; it never holds a secret."""

    variable: str
    source: str
    value: str | None


def config() -> None:
    """Print every setting with its source (environment, file or default) and its value, secrets masked.

    Names on stderr what is missing or wrong, and is then left with status 2, and variables that are no settings.
    """
    try:
        found = settings_found(secrets_directory())
    except SettingsError as error:
        _complain(error)
        raise typer.Exit(WRONG) from None
    fault = _fault()
    widths = max(len(setting.variable) for setting in found), max(len(setting.source) for setting in found)
    wrong = frozenset() if fault is None else frozenset(map(variable, fault.names))
    for setting in found:
        shown = _WRONG if setting.variable in wrong else "-" if setting.value is None else setting.value
        typer.echo(printable(f"{setting.variable:<{widths[0]}}  {setting.source:<{widths[1]}}  {shown}"))
    for name in unknown_variables():
        _complain(f"{name}: is no setting")
    if fault is not None:
        _complain(fault)
        raise typer.Exit(WRONG)


def _fault() -> SettingsError | None:
    try:
        Settings.from_environment()
    except SettingsError as error:
        return error
    return None


def settings_found(directory: Path | None) -> list[Setting]:
    """As they were given, whether they are right or not. The environment comes before the files of the directory."""
    environment: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for settings in _CLASSES:
        environment |= EnvSettingsSource(settings)()
        files |= {} if directory is None else SecretsSettingsSource(settings, secrets_dir=directory)()
    return [_setting(name, field, environment, files) for name, field in _FIELDS.items()]


def unknown_variables() -> list[str]:
    known = {SECRETS_DIR, *map(variable, _FIELDS)}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def _setting(name: str, field: FieldInfo, environment: dict[str, Any], files: dict[str, Any]) -> Setting:
    for source, values in (("environment", environment), ("file", files)):
        if name in values:
            return Setting(variable(name), source, _shown(name, field, str(values[name])))
    default = None if field.is_required() or field.default is None else str(field.default)
    return Setting(variable(name), "default", default)


def _shown(name: str, field: FieldInfo, value: str) -> str:
    if name.endswith("database_url"):
        return _without_passwords(value)
    if SecretStr.__name__ in str(field.annotation):
        return _MASK
    return _USER_INFO.sub(rf"\1{_MASK}@", value) if name in _URLS else value


def _without_passwords(dsn: str) -> str:
    """As key=value, whatever form it was given in: what libpq itself would not display is masked."""
    try:
        parts = conninfo_to_dict(dsn)
    except ProgrammingError:
        return _MASK
    if "@" in str(parts.get("host", "")) or not str(parts.get("port", "0")).replace(",", "").isdecimal():
        return _MASK  # parts of a password may have become others
    return make_conninfo(**{key: _MASK if key in _HIDDEN else str(part) for key, part in parts.items()})


def _complain(what: object) -> None:
    typer.echo(printable(f"sre-domain: {what}"), err=True)
