"""The one place that sees the environment: SRE_* variables, read once, typed; everything else receives plain values."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import SettingsError


class _FromEnvironment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SRE_", frozen=True, extra="ignore")

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings; raises SettingsError, one line that names every variable that is missing or wrong."""
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError(error) from None


class KafkaSettings(_FromEnvironment):
    """What a client of the bus needs to know."""

    kafka_bootstrap_servers: str = Field(min_length=1)
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_file: str | None = None
    kafka_ssl_certificate_file: str | None = None
    kafka_ssl_key_file: str | None = None
    kafka_ssl_key_password: SecretStr | None = None
    schema_registry_url: str | None = None


class HealthSettings(_FromEnvironment):
    """Where a service answers its probes; nowhere, unless told to."""

    health_address: str | None = Field(default=None, pattern=r"^[^:]*:\d{1,5}$")  # of one IPv4 interface, or of all


class BridgeSettings(KafkaSettings):
    """What a bridge that others send to over HTTP needs to know."""

    bridge_token: SecretStr = Field(min_length=1)  # what a sender shows as its bearer token


class DatabaseSettings(_FromEnvironment):
    """Where PostgreSQL is; the relay and the migrations may have roles, and so URLs, of their own."""

    database_url: SecretStr
    migrate_database_url: SecretStr | None = None
    relay_database_url: SecretStr | None = None
    relay_slot: str = Field(default="sre_outbox", pattern=r"^[a-z0-9_]{1,63}$")

    @property
    def migration_dsn(self) -> str:
        return (self.migrate_database_url or self.database_url).get_secret_value()

    @property
    def relay_dsn(self) -> str:
        return (self.relay_database_url or self.database_url).get_secret_value()

    @property
    def writer_dsn(self) -> str:
        return self.database_url.get_secret_value()


class RetentionSettings(DatabaseSettings):
    """How long the database keeps what nobody needs to decide or publish any more."""

    inbox_retention_days: PositiveInt = Field(default=30, le=30)  # older intents are INTENT_EXPIRED
    outbox_retention_days: PositiveInt = 7  # how far back the fact topics can be rebuilt
    maintenance_seconds: PositiveFloat = 3600.0


class Settings(HealthSettings, RetentionSettings, KafkaSettings):
    """What the worker and the relay need to know; see docs/settings.md."""

    consumer_group: str = "sre-domain"
    session_timeout_seconds: PositiveFloat = 12.0  # a dead worker's partitions wait this long for another
    batch_max_intents: PositiveInt = 500
    # A worker that has something to do and does nothing ends after so long. Its steps during an outage are attempts that take up to 40 s.
    watchdog_seconds: float = Field(default=120.0, ge=60)

    relay_transaction_timeout_seconds: PositiveFloat = 12.0  # a dead relay's open transaction holds readers back this long
