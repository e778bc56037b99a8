"""How the settings read to librdkafka; every client of confluent-kafka starts from here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.settings import KafkaSettings

_LIBRDKAFKA_LOG = logging.getLogger("librdkafka")


def librdkafka_config(settings: KafkaSettings) -> dict[str, Any]:
    """Connection and security properties, and a logger, since librdkafka writes to stderr otherwise."""
    config = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password and settings.kafka_sasl_password.get_secret_value(),
        "ssl.ca.location": settings.kafka_ssl_ca_file,
        "ssl.certificate.location": settings.kafka_ssl_certificate_file,
        "ssl.key.location": settings.kafka_ssl_key_file,
        "ssl.key.password": settings.kafka_ssl_key_password and settings.kafka_ssl_key_password.get_secret_value(),
    }
    return {name: value for name, value in config.items() if value is not None} | {"logger": _LIBRDKAFKA_LOG}
