"""The one place that sees the environment: SRE_* variables, read once, typed; everything else receives plain values.

A variable's value may be in a file of its name instead, in the directory SRE_SECRETS_DIR. No message holds a value that was given.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import SettingsError

PREFIX: Final = "SRE_"
SECRETS_DIR: Final = "SRE_SECRETS_DIR"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def variable(name: str) -> str:
    """What a field's environment variable, and its file, is called."""
    return PREFIX + name.upper()


def secrets_directory() -> Path | None:
    """Where the files of settings are; None where there are none. Raises SettingsError."""
    given = os.environ.get(SECRETS_DIR)
    if not given:
        return None
    if not os.access(given, os.R_OK | os.X_OK) or not Path(given).is_dir():
        raise SettingsError(f"{SECRETS_DIR}: is no directory that can be read")
    return Path(given)


def _readable_file(path: str) -> str:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from None
    return path


def _database_url(url: SecretStr) -> SecretStr:
    """Refused here, since libpq names in its complaints what it takes for a host or a port, which can be parts of a password."""
    try:
        parts = conninfo_to_dict(url.get_secret_value())
    except ProgrammingError:
        raise ValueError("is no libpq URL or key=value string") from None
    ports = str(parts.get("port", "")).split(",")
    if "@" in str(parts.get("host", "")) or not all(port.isdecimal() for port in ports if port):
        raise ValueError("has no host or port where libpq looks for it: percent-encode user and password")
    return url


def _token_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("must begin with https://, since it is sent the client's secret")
    if "@" in parts.netloc or not parts.hostname:
        raise ValueError("must be https://HOST/PATH, without user and password")
    return url


def _registry_url(urls: str) -> str:
    if not all(urlsplit(url.strip()).scheme in ("http", "https") and urlsplit(url.strip()).hostname for url in urls.split(",")):
        raise ValueError("must be http://HOST:PORT/PATH or https://…, several with commas")
    return urls


ReadableFile = Annotated[str, AfterValidator(_readable_file)]
DatabaseURL = Annotated[SecretStr, AfterValidator(_database_url)]
TokenURL = Annotated[str, AfterValidator(_token_url)]
RegistryURL = Annotated[str, AfterValidator(_registry_url)]
Uses = dict[str, tuple[bool, bool, str]]
"""By name: whether it is used, whether it is needed, and with what."""


class _FromEnvironment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings; raises SettingsError, one line that names every variable that is missing or wrong."""
        try:
            return cls(_secrets_dir=secrets_directory())
        except ValidationError as error:
            names = frozenset(str(fault["loc"][0]) for fault in error.errors() if fault["loc"])
            raise SettingsError("; ".join(_faults(error)), names) from None
        except OSError as error:
            raise SettingsError(f"{SECRETS_DIR}: {Path(error.filename or '').name} can't be read: {error.strerror}") from None


class RegistrySettings(_FromEnvironment):
    """Where a schema registry is, if there is one."""

    schema_registry_url: RegistryURL | None = Field(default=None, repr=False)  # may hold a password
    schema_registry_username: str | None = Field(default=None, pattern=r"^[^:]+$")  # which basic authentication ends at a colon
    schema_registry_password: SecretStr | None = None
    schema_registry_ca_file: ReadableFile | None = None

    @model_validator(mode="after")
    def _registry_fits_together(self) -> Self:
        if faults := list(_misfits(self, _registry_uses(self))):
            raise ValueError("; ".join(faults))
        return self


class KafkaSettings(RegistrySettings):
    """What a client of the bus needs to know. A setting that its protocol does not use is an error: somebody relies on it."""

    kafka_bootstrap_servers: str = Field(pattern=r"^[^\s@]+$")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_oauth_token_url: TokenURL | None = None
    kafka_oauth_client_id: str | None = None
    kafka_oauth_client_secret: SecretStr | None = None
    kafka_oauth_scope: str | None = None
    kafka_oauth_ca_file: ReadableFile | None = None
    kafka_ssl_ca_file: ReadableFile | None = None
    kafka_ssl_certificate_file: ReadableFile | None = None
    kafka_ssl_key_file: ReadableFile | None = None
    kafka_ssl_key_password: SecretStr | None = None
    encoding: Literal["single-object", "confluent"] = "single-object"  # of what this process writes; it reads both
    signing_key_file: ReadableFile | None = None  # what intents that are published are signed with

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if faults := list(_misfits(self, _kafka_uses(self))):
            raise ValueError("; ".join(faults))
        return self


class HealthSettings(_FromEnvironment):
    """Where a service answers its probes; nowhere, unless told to."""

    health_address: str | None = Field(default=None, pattern=r"^[^:]*:\d{1,5}$")  # of one IPv4 interface, or of all


class LogSettings(_FromEnvironment):
    """How a service logs, and how much."""

    log_format: Literal["text", "json"] = "text"
    log_level: Literal["info", "debug"] = "info"


class BridgeSettings(KafkaSettings):
    """What a bridge that others send to over HTTP needs to know."""

    bridge_token: SecretStr = Field(min_length=1)  # what a sender shows as its bearer token


class DatabaseSettings(_FromEnvironment):
    """Where PostgreSQL is; the relay and the migrations may have roles, and so URLs, of their own."""

    database_url: DatabaseURL
    migrate_database_url: DatabaseURL | None = None
    relay_database_url: DatabaseURL | None = None
    query_database_url: DatabaseURL | None = None
    relay_slot: str = Field(default="sre_outbox", pattern=r"^[a-z0-9_]{1,63}$")

    @property
    def migration_dsn(self) -> str:
        return (self.migrate_database_url or self.database_url).get_secret_value()

    @property
    def relay_dsn(self) -> str:
        return (self.relay_database_url or self.database_url).get_secret_value()

    @property
    def reader_dsn(self) -> str:
        return (self.query_database_url or self.database_url).get_secret_value()

    @property
    def writer_dsn(self) -> str:
        return self.database_url.get_secret_value()


class RetentionSettings(DatabaseSettings):
    """How long the database keeps what nobody needs to decide or publish any more."""

    inbox_retention_days: PositiveInt = Field(default=30, le=30)  # older intents are INTENT_EXPIRED
    outbox_retention_days: PositiveInt = 7  # how far back the fact topics can be rebuilt
    maintenance_seconds: PositiveFloat = 3600.0


class Settings(LogSettings, HealthSettings, RetentionSettings, KafkaSettings):
    """What the worker and the relay need to know; see docs/settings.md."""

    consumer_group: str = "sre-domain"
    session_timeout_seconds: PositiveFloat = 12.0  # a dead worker's partitions wait this long for another
    batch_max_intents: PositiveInt = 500
    signatures: Literal["off", "warn", "require"] = "off"
    # A worker that has something to do and does nothing ends after so long. Its steps during an outage are attempts that take up to 40 s.
    watchdog_seconds: float = Field(default=120.0, ge=60)

    relay_transaction_timeout_seconds: PositiveFloat = 12.0  # a dead relay's open transaction holds readers back this long


def _misfits(settings: RegistrySettings, uses: Uses) -> Iterator[str]:
    """What is needed and not there, and what is there and not used."""
    for name, (used, needed, with_what) in uses.items():
        given = getattr(settings, name) is not None
        if needed and not given:
            yield f"{variable(name)}: is needed with {with_what}"
        if given and not used:
            yield f"{variable(name)}: is not used with {with_what}"


def _kafka_uses(settings: KafkaSettings) -> Uses:
    """What the protocol and the mechanism take."""
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    sasl, tls, oauth = protocol.startswith("SASL"), protocol.endswith("SSL"), mechanism == "OAUTHBEARER"
    certificate, key = settings.kafka_ssl_certificate_file is not None, settings.kafka_ssl_key_file is not None
    login = f"{protocol} {mechanism}" if sasl and mechanism else protocol
    password = sasl and not oauth
    confluent = settings.encoding == "confluent"
    return {
        "schema_registry_url": (True, confluent, f"{variable('encoding')}=confluent"),
        "kafka_sasl_mechanism": (sasl, sasl, protocol),
        "kafka_sasl_username": (password, password and mechanism is not None, login),
        "kafka_sasl_password": (password, password and mechanism is not None, login),
        "kafka_oauth_token_url": (sasl and oauth, sasl and oauth, login),
        "kafka_oauth_client_id": (sasl and oauth, sasl and oauth, login),
        "kafka_oauth_client_secret": (sasl and oauth, sasl and oauth, login),
        "kafka_oauth_scope": (sasl and oauth, False, login),
        "kafka_oauth_ca_file": (sasl and oauth, False, login),
        "kafka_ssl_ca_file": (tls, False, protocol),
        "kafka_ssl_certificate_file": (tls, tls and key, variable("kafka_ssl_key_file") if tls else protocol),
        "kafka_ssl_key_file": (tls, tls and certificate, variable("kafka_ssl_certificate_file") if tls else protocol),
        "kafka_ssl_key_password": (tls and key, False, f"no {variable('kafka_ssl_key_file')}" if tls else protocol),
    }


def _registry_uses(settings: RegistrySettings) -> Uses:
    url, where = settings.schema_registry_url or "", variable("schema_registry_url")
    user, password = settings.schema_registry_username is not None, settings.schema_registry_password is not None
    used = url != "" and "@" not in url
    unused = f"a login in {where}" if url else f"no {where}"
    return {
        "schema_registry_username": (used, used and password, variable("schema_registry_password") if used else unused),
        "schema_registry_password": (used, used and user, variable("schema_registry_username") if used else unused),
        "schema_registry_ca_file": ("https://" in url, False, f"no https:// in {where}"),
    }


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        what = fault["msg"].removeprefix("Value error, ")
        yield f"{variable(str(fault['loc'][0]))}: {what}" if fault["loc"] else what
