"""How the settings read to librdkafka; every client of confluent-kafka starts from here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import SecretStr

    from worker.settings import KafkaSettings

_LIBRDKAFKA_LOG = logging.getLogger("librdkafka")


def librdkafka_config(settings: KafkaSettings) -> dict[str, Any]:
    """Connection and security properties, and a logger, since librdkafka writes to stderr otherwise."""
    config = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "ssl.endpoint.identification.algorithm": "https",  # the default of 2.0 and later; others verify the chain alone
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": _revealed(settings.kafka_sasl_password),
        "ssl.ca.location": settings.kafka_ssl_ca_file,
        "ssl.certificate.location": settings.kafka_ssl_certificate_file,
        "ssl.key.location": settings.kafka_ssl_key_file,
        "ssl.key.password": _revealed(settings.kafka_ssl_key_password),
        **(_oidc(settings) if settings.kafka_sasl_mechanism == "OAUTHBEARER" else {}),
    }
    return {name: value for name, value in config.items() if value is not None} | {"logger": _LIBRDKAFKA_LOG}


def _oidc(settings: KafkaSettings) -> dict[str, str | None]:
    """The client credentials grant of librdkafka itself, which fetches tokens on a thread of its own and renews them in time."""
    return {
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": settings.kafka_oauth_token_url,
        "sasl.oauthbearer.client.id": settings.kafka_oauth_client_id,
        "sasl.oauthbearer.client.secret": _revealed(settings.kafka_oauth_client_secret),
        "sasl.oauthbearer.scope": settings.kafka_oauth_scope,
        "https.ca.location": settings.kafka_oauth_ca_file or "probe",  # the system's, wherever they are
    }


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
