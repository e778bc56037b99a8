"""An Apache Kafka that takes nobody's word: SASL_SSL and mutual TLS on every listener, and ACLs by the table of worker/acls.py."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from tests.support.certificates import Authority
from tests.support.oidc import AUDIENCE, TokenEndpoint
from worker.acls import Job, rights_of
from worker.devstack.apache_kafka import BrokerChanges, start_kafka, stop_kafka
from worker.devstack.processes import LOOPBACK, free_port
from worker.domain.aggregate import AGGREGATES
from worker.kafka_config import librdkafka_config
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from worker.acls import Right

GROUP = "sre-secured"
SLOT = "sre_secured"
KEY_PASSWORD = "TOPSECRET-key-password"  # noqa: S105 - of this broker's clients
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "mTLS")
_SUPERUSER = "root"
_MODULES = "org.apache.kafka.common.security"


def password_of(job: str) -> str:
    return f"TOPSECRET-{job}-password"


def client_secret_of(job: str) -> str:
    return f"TOPSECRET-{job}-client"


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """A principal for each job, by the job's name, which may log in by every mechanism; `admin` is a superuser."""

    directory: Path
    sasl_port: int
    tls_port: int
    authority: Authority
    tokens: TokenEndpoint

    def environment(self, job: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """The SRE_KAFKA_* variables with which a job's principal logs in."""
        tls = {"SRE_KAFKA_SSL_CA_FILE": str(self.authority.ca), "SRE_CONSUMER_GROUP": GROUP, "SRE_RELAY_SLOT": SLOT}
        if mechanism == "mTLS":
            return tls | {
                "SRE_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{self.tls_port}",
                "SRE_KAFKA_SECURITY_PROTOCOL": "SSL",
                "SRE_KAFKA_SSL_CERTIFICATE_FILE": str(self.directory / f"{job}.crt"),
                "SRE_KAFKA_SSL_KEY_FILE": str(self.directory / f"{job}.key"),
                "SRE_KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
            }
        sasl = tls | {
            "SRE_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{self.sasl_port}",
            "SRE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "SRE_KAFKA_SASL_MECHANISM": mechanism,
        }
        if mechanism == "OAUTHBEARER":
            return sasl | {
                "SRE_KAFKA_OAUTH_TOKEN_URL": self.tokens.url,
                "SRE_KAFKA_OAUTH_CLIENT_ID": job,
                "SRE_KAFKA_OAUTH_CLIENT_SECRET": client_secret_of(job),
                "SRE_KAFKA_OAUTH_SCOPE": "kafka",
                "SRE_KAFKA_OAUTH_CA_FILE": str(self.authority.ca),
            }
        return sasl | {"SRE_KAFKA_SASL_USERNAME": job, "SRE_KAFKA_SASL_PASSWORD": password_of(job)}

    def settings(self, job: str, mechanism: str = "SCRAM-SHA-512", **changes: str) -> KafkaSettings:
        """`changes` are variables that differ."""
        given = {**self.environment(job, mechanism), **changes}
        return KafkaSettings(**{name.removeprefix("SRE_").lower(): value for name, value in given.items()})  # type: ignore[arg-type]

    def superuser(self) -> AdminClient:
        return AdminClient(librdkafka_config(self.settings(_SUPERUSER, "mTLS")))

    def allow(self, job: str, rights: Iterable[Right]) -> None:
        admin = self.superuser()  # it answers as long as there is a reference to it
        _each(admin.create_acls(_bindings(job, rights), request_timeout=15))

    def forbid(self, job: str, rights: Iterable[Right]) -> None:
        admin = self.superuser()
        _each(admin.delete_acls(_filters(job, rights), request_timeout=15))


@contextmanager
def secured_kafka(directory: Path) -> Iterator[SecuredKafka]:
    """Certificates, the token endpoint, the broker, and the rights of each job."""
    authority = Authority(directory)
    for name in ("broker", _SUPERUSER, *Job):
        hosts = (LOOPBACK,) if name == "broker" else ()  # not localhost, which is then a wrong host name
        authority.issue(name, *hosts, password=None if name == "broker" else KEY_PASSWORD)
    keystore = directory / "broker.pem"
    keystore.write_bytes((directory / "broker.key").read_bytes() + (directory / "broker.crt").read_bytes())
    tokens = TokenEndpoint({job: client_secret_of(job) for job in Job}, authority.server_context(LOOPBACK))
    sasl_port, tls_port, controller_port = free_port(), free_port(), free_port()
    settings = _settings(directory, sasl_port, tls_port, controller_port, tokens)
    urls = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={tokens.keys_url}"
    with tokens.serving():
        broker = start_kafka(directory / "kafka", sasl_port, controller_port, changes=BrokerChanges(settings, (urls,)))
        try:
            kafka = SecuredKafka(directory, sasl_port, tls_port, authority, tokens)
            _make_scram_users(kafka.superuser())
            for job in Job:
                kafka.allow(job, rights_of(job, tuple(AGGREGATES), consumer_group=GROUP, slot=SLOT))
            yield kafka
        finally:
            stop_kafka(broker)


def _settings(directory: Path, sasl_port: int, tls_port: int, controller_port: int, tokens: TokenEndpoint) -> dict[str, str]:
    plain = " ".join(f'user_{job}="{password_of(job)}"' for job in Job)
    sasl = "listener.name.sasl_ssl"
    # The broker logs in, too, with a token that nobody looks at; `trust` is for the endpoint that has the keys of tokens.
    trust = f'unsecuredLoginStringClaim_sub="unused" ssl.truststore.type="PEM" ssl.truststore.location="{directory / "ca.pem"}"'
    return {
        "listeners": f"SASL_SSL://{LOOPBACK}:{sasl_port},SSL://{LOOPBACK}:{tls_port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"SASL_SSL://{LOOPBACK}:{sasl_port},SSL://{LOOPBACK}:{tls_port}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:SSL",
        "inter.broker.listener.name": "SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(directory / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(directory / "ca.pem"),
        "listener.name.ssl.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": r"RULE:^.*CN=([a-z]+).*$/$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:broker;User:{_SUPERUSER}",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        f"{sasl}.plain.sasl.jaas.config": f"{_MODULES}.plain.PlainLoginModule required {plain};",
        f"{sasl}.scram-sha-256.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
        f"{sasl}.scram-sha-512.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
        f"{sasl}.oauthbearer.sasl.jaas.config": f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required {trust};",
        f"{sasl}.oauthbearer.sasl.server.callback.handler.class": f"{_MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler",
        f"{sasl}.oauthbearer.sasl.oauthbearer.jwks.endpoint.url": tokens.keys_url,
        f"{sasl}.oauthbearer.sasl.oauthbearer.expected.audience": AUDIENCE,
        f"{sasl}.oauthbearer.sasl.oauthbearer.expected.issuer": tokens.base,
    }


def _make_scram_users(admin: AdminClient) -> None:
    for kind in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        users: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(job, ScramCredentialInfo(kind, 4096), password_of(job).encode()) for job in Job
        ]
        _each(admin.alter_user_scram_credentials(users, request_timeout=15))


def _filters(job: str, rights: Iterable[Right]) -> list[AclBindingFilter]:
    return [
        AclBindingFilter(right.resource, right.name, ResourcePatternType.LITERAL, f"User:{job}", "*", operation, AclPermissionType.ALLOW)
        for right in rights
        for operation in right.operations
    ]


def _bindings(job: str, rights: Iterable[Right]) -> list[AclBinding]:
    return [
        AclBinding(right.resource, right.name, ResourcePatternType.LITERAL, f"User:{job}", "*", operation, AclPermissionType.ALLOW)
        for right in rights
        for operation in right.operations
    ]


def _each(futures: Mapping[Any, Future[Any]]) -> None:
    for future in futures.values():
        future.result(15)
