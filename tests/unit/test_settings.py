"""Settings from the environment and from files, what is refused, and that no value is ever in a message."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from worker.cli.config import settings_found
from worker.errors import SettingsError
from worker.kafka_config import librdkafka_config
from worker.settings import BridgeSettings, DatabaseSettings, KafkaSettings, Settings, secrets_directory, variable

if TYPE_CHECKING:
    from pathlib import Path

HERE = __file__
SASL = {"SRE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
LOGIN = {"SRE_KAFKA_SASL_USERNAME": "ann", "SRE_KAFKA_SASL_PASSWORD": "TOPSECRET"}
OAUTH = {
    "SRE_KAFKA_OAUTH_TOKEN_URL": "https://login.example/token",
    "SRE_KAFKA_OAUTH_CLIENT_ID": "ann",
    "SRE_KAFKA_OAUTH_CLIENT_SECRET": "TOPSECRET",
}

REGISTRY = {"SRE_SCHEMA_REGISTRY_URL": "https://registry.example:8081"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SRE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9093")
    monkeypatch.setenv("SRE_DATABASE_URL", "postgresql://db.example/sre")


def given(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SRE_KAFKA_SECURITY_PROTOCOL": "SSL"},
        {"SRE_KAFKA_SECURITY_PROTOCOL": "SSL", "SRE_KAFKA_SSL_CERTIFICATE_FILE": HERE, "SRE_KAFKA_SSL_KEY_FILE": HERE},
        SASL | LOGIN | {"SRE_KAFKA_SASL_MECHANISM": "PLAIN"},
        SASL | LOGIN | {"SRE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256", "SRE_KAFKA_SSL_CA_FILE": HERE},
        {"SRE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SRE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"} | LOGIN,
        SASL | OAUTH | {"SRE_KAFKA_SASL_MECHANISM": "OAUTHBEARER", "SRE_KAFKA_OAUTH_SCOPE": "kafka", "SRE_KAFKA_OAUTH_CA_FILE": HERE},
        {"SRE_KAFKA_SASL_MECHANISM": ""},
        REGISTRY | {"SRE_ENCODING": "confluent"},
        REGISTRY
        | {"SRE_SCHEMA_REGISTRY_USERNAME": "ann", "SRE_SCHEMA_REGISTRY_PASSWORD": "TOP:SECRET", "SRE_SCHEMA_REGISTRY_CA_FILE": HERE},
        {"SRE_SCHEMA_REGISTRY_URL": "http://ann:TOPSECRET@one.example:8081,http://ann:TOPSECRET@other.example:8081/apis/ccompat/v7"},
    ],
)
def test_settings_that_fit_together_are_taken(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    given(monkeypatch, variables)
    assert KafkaSettings.from_environment().kafka_bootstrap_servers == "kafka.example:9093"


@pytest.mark.parametrize(
    ("variables", "faults"),
    [
        (SASL, ["SRE_KAFKA_SASL_MECHANISM: is needed with SASL_SSL"]),
        (SASL | LOGIN, ["SRE_KAFKA_SASL_MECHANISM: is needed with SASL_SSL"]),
        (
            SASL | {"SRE_KAFKA_SASL_MECHANISM": "PLAIN"},
            ["SRE_KAFKA_SASL_USERNAME: is needed with SASL_SSL PLAIN", "SRE_KAFKA_SASL_PASSWORD: is needed with SASL_SSL PLAIN"],
        ),
        (
            SASL | {"SRE_KAFKA_SASL_MECHANISM": "OAUTHBEARER"},
            [f"{name}: is needed with SASL_SSL OAUTHBEARER" for name in OAUTH],
        ),
        (
            SASL | LOGIN | OAUTH | {"SRE_KAFKA_SASL_MECHANISM": "PLAIN"},
            [f"{name}: is not used with SASL_SSL PLAIN" for name in OAUTH],
        ),
        (LOGIN, [f"{name}: is not used with PLAINTEXT" for name in LOGIN]),
        ({"SRE_KAFKA_SASL_MECHANISM": "PLAIN"}, ["SRE_KAFKA_SASL_MECHANISM: is not used with PLAINTEXT"]),
        ({"SRE_KAFKA_SSL_CA_FILE": HERE}, ["SRE_KAFKA_SSL_CA_FILE: is not used with PLAINTEXT"]),
        (
            {"SRE_KAFKA_SECURITY_PROTOCOL": "SSL", "SRE_KAFKA_SSL_KEY_FILE": HERE},
            ["SRE_KAFKA_SSL_CERTIFICATE_FILE: is needed with SRE_KAFKA_SSL_KEY_FILE"],
        ),
        (
            {"SRE_KAFKA_SECURITY_PROTOCOL": "SSL", "SRE_KAFKA_SSL_CERTIFICATE_FILE": HERE},
            ["SRE_KAFKA_SSL_KEY_FILE: is needed with SRE_KAFKA_SSL_CERTIFICATE_FILE"],
        ),
        (
            {"SRE_KAFKA_SECURITY_PROTOCOL": "SSL", "SRE_KAFKA_SSL_KEY_PASSWORD": "TOPSECRET"},
            ["SRE_KAFKA_SSL_KEY_PASSWORD: is not used with no SRE_KAFKA_SSL_KEY_FILE"],
        ),
        (
            {"SRE_KAFKA_SECURITY_PROTOCOL": "SSL", "SRE_KAFKA_SSL_CA_FILE": "/nowhere"},
            ["SRE_KAFKA_SSL_CA_FILE: can't be read: No such file or directory"],
        ),
        (
            SASL | OAUTH | {"SRE_KAFKA_SASL_MECHANISM": "OAUTHBEARER", "SRE_KAFKA_OAUTH_TOKEN_URL": "http://login.example/token"},
            ["SRE_KAFKA_OAUTH_TOKEN_URL: must begin with https://, since it is sent the client's secret"],
        ),
        ({"SRE_ENCODING": "confluent"}, ["SRE_SCHEMA_REGISTRY_URL: is needed with SRE_ENCODING=confluent"]),
        (
            {"SRE_SCHEMA_REGISTRY_USERNAME": "ann", "SRE_SCHEMA_REGISTRY_CA_FILE": HERE},
            [
                "SRE_SCHEMA_REGISTRY_USERNAME: is not used with no SRE_SCHEMA_REGISTRY_URL",
                "SRE_SCHEMA_REGISTRY_CA_FILE: is not used with no https:// in SRE_SCHEMA_REGISTRY_URL",
            ],
        ),
        (
            REGISTRY | {"SRE_SCHEMA_REGISTRY_PASSWORD": "TOPSECRET"},
            ["SRE_SCHEMA_REGISTRY_USERNAME: is needed with SRE_SCHEMA_REGISTRY_PASSWORD"],
        ),
        (
            {"SRE_SCHEMA_REGISTRY_URL": "http://ann:TOPSECRET@registry.example", "SRE_SCHEMA_REGISTRY_USERNAME": "ann"},
            ["SRE_SCHEMA_REGISTRY_USERNAME: is not used with a login in SRE_SCHEMA_REGISTRY_URL"],
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], faults: list[str]) -> None:
    given(monkeypatch, variables)
    with pytest.raises(SettingsError) as refused:
        KafkaSettings.from_environment()
    assert str(refused.value).split("; ") == faults


WRONG = {
    "SRE_KAFKA_BOOTSTRAP_SERVERS": ["ann:TOPSECRET@kafka.example:9093", "TOPSECRET TOPSECRET"],
    "SRE_KAFKA_SECURITY_PROTOCOL": ["TOPSECRET"],
    "SRE_KAFKA_SASL_MECHANISM": ["TOPSECRET", "GSSAPI"],
    "SRE_KAFKA_OAUTH_TOKEN_URL": ["https://ann:TOPSECRET@login.example/token", "TOPSECRET", "https://"],
    "SRE_KAFKA_SSL_CA_FILE": ["TOPSECRET"],
    "SRE_DATABASE_URL": [
        "TOPSECRET",
        "postgres//ann:TOPSECRET@db.example/sre",
        "postgresql://ann:TOP@SECRET@db.example/sre",
        "postgresql://ann:TOP/SECRET@db.example/sre",
        "postgresql://ann:TOP%SECRET@db.example/sre",
        "postgresql://ann:TOPSECRET@db.example/sre?sslmod=verify-full",
        "host=db.example password='TOPSECRET",
    ],
    "SRE_INBOX_RETENTION_DAYS": ["TOPSECRET", "31"],
    "SRE_RELAY_SLOT": ["TOPSECRET"],
    "SRE_SCHEMA_REGISTRY_URL": [
        "ann:TOPSECRET@registry.example",
        "mock://TOPSECRET",
        "http://",
        "https://[TOPSECRET",
        "https://a,TOPSECRET",
    ],
    "SRE_ENCODING": ["TOPSECRET"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment()
    assert str(refused.value).startswith(f"{name}: ")
    assert not any(part in str(refused.value) for part in ("TOP", "SECRET", "db.example", "GSSAPI"))
    assert refused.value.__cause__ is None


def test_a_wrong_value_given_in_code_is_not_repeated_either() -> None:
    with pytest.raises(ValueError, match="SRE_KAFKA_SASL_USERNAME: is not used with PLAINTEXT") as refused:
        KafkaSettings(kafka_bootstrap_servers="kafka.example:9093", kafka_sasl_username="TOPSECRET")
    assert "TOPSECRET" not in str(refused.value)


def test_a_setting_can_be_a_file_of_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "SRE_DATABASE_URL").write_text("postgresql://ann:TOPSECRET@files.example/sre\n")
    (tmp_path / "sre_bridge_token").write_text("TOPSECRET")
    monkeypatch.setenv("SRE_SECRETS_DIR", str(tmp_path))
    assert "db.example" in DatabaseSettings.from_environment().writer_dsn, "the environment comes first"
    monkeypatch.delenv("SRE_DATABASE_URL")
    assert DatabaseSettings.from_environment().writer_dsn == "postgresql://ann:TOPSECRET@files.example/sre"
    assert BridgeSettings.from_environment().bridge_token.get_secret_value() == "TOPSECRET"


def test_files_that_kubernetes_mounts_are_read_and_a_rotated_one_at_the_next_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SRE_DATABASE_URL")
    monkeypatch.setenv("SRE_SECRETS_DIR", str(tmp_path))
    for name, host in (("..one", "one.example"), ("..two", "two.example")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "SRE_DATABASE_URL").write_text(f"postgresql://{host}/sre")
    data = tmp_path / "..data"
    data.symlink_to("..one")
    (tmp_path / "SRE_DATABASE_URL").symlink_to("..data/SRE_DATABASE_URL")
    before = DatabaseSettings.from_environment()
    data.unlink()
    data.symlink_to("..two")
    assert "one.example" in before.writer_dsn
    assert "two.example" in DatabaseSettings.from_environment().writer_dsn


@pytest.mark.parametrize("directory", ["/nowhere", HERE])
def test_a_directory_of_files_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    monkeypatch.setenv("SRE_SECRETS_DIR", directory)
    with pytest.raises(SettingsError, match="SRE_SECRETS_DIR: is no directory that can be read"):
        Settings.from_environment()


FIELDS = {**Settings.model_fields, **BridgeSettings.model_fields}
SECRETS = [name for name, field in FIELDS.items() if SecretStr.__name__ in str(field.annotation)]


def test_every_secret_is_one_by_its_type() -> None:
    named = [name for name in FIELDS if name.endswith(("password", "secret", "token", "database_url"))]
    assert set(named) <= set(SECRETS)


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        given(monkeypatch, {variable(name): "postgresql://ann:TOPSECRET@db.example/sre?sslpassword=TOPSECRET"})
    given(
        monkeypatch,
        SASL | LOGIN | {"SRE_KAFKA_SASL_MECHANISM": "PLAIN", "SRE_SCHEMA_REGISTRY_URL": "https://ann:TOPSECRET@registry.example"},
    )
    shown = [repr(setting) for setting in settings_found(secrets_directory())]
    assert not any("TOPSECRET" in line for line in shown)
    assert sum("db.example" in line for line in shown) == sum(name.endswith("database_url") for name in SECRETS)
    for name in SECRETS:
        monkeypatch.delenv(variable(name))
    given(monkeypatch, LOGIN | {"SRE_DATABASE_URL": "postgresql://ann:TOPSECRET@db.example/sre"})
    settings = Settings.from_environment()
    assert "TOPSECRET" not in f"{settings!r} {settings} {settings.model_dump()['database_url']}"
    assert b"TOPSECRET" in pickle.dumps(settings), "the secrets are there"


def test_a_host_name_is_always_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {"SRE_KAFKA_SECURITY_PROTOCOL": "SSL"})
    assert librdkafka_config(KafkaSettings.from_environment())["ssl.endpoint.identification.algorithm"] == "https"
