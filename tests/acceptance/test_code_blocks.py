"""The pages do what they say: on the embedded stack, the blocks of each page run in their order, and put out what is shown.

SQL runs in a transaction that is rolled back, as the superuser, or as a reader where it calls an operation of `sre_query`.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from tests.support.blocks import ROOT, Shell, new_shell, run_block
from tests.support.code_blocks import walked_pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.blocks import Block

INCIDENT: Final = "5f8d2c1e-6b1d-4f0f-8c64-0b8f6a3d2e10"
CREATED: Final = (
    f'{{"type": "CreateIncident", "id": "{INCIDENT}", "tenant": "acme", "key": "{INCIDENT}", '
    '"data": {"title": "Checkout is down", "severity": "critical", "source": "manual", "actor": "ann"}}'
)
REFUSED: Final = (
    '{"type": "RecordSLIWindow", "id": "0b7c6a52-5d0e-4c1b-9f0e-2a6f5d0c9a11", "tenant": "acme", "key": "nobody-has-it", '
    '"data": {"start": "2026-03-02T00:00:00Z", "width_seconds": 300, "good": 1, "total": 1}}'
)
VECTOR_KEY: Final = """
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from worker.postgres.named_sql import statements
from worker.settings import DatabaseSettings
import psycopg
key = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()
named = {"tenant_id": "acme", "public_key": key, "principal": "ann", "intents": ["IngestAlertRequested"], "actor": None,
         "days": 1, "valid_from": None, "valid_until": None}
with psycopg.connect(DatabaseSettings.from_environment().migration_dsn) as connection:
    connection.execute(statements("keys")["add_key"], named)
"""
OPEN_SLO: Final = """
apiVersion: openslo/v1
kind: SLO
metadata: {name: checkout-requests, labels: {owner: team-checkout}}
spec:
  service: checkout
  indicator:
    metadata: {name: answered}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: Prometheus, spec: {query: good}}}
        total: {metricSource: {type: Prometheus, spec: {query: total}}}
  timeWindow: [{duration: 7d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
"""
SOURCES: Final = f"""
mkdir slos bin
echo '{OPEN_SLO}' > slos/checkout.yaml
echo 'cat {ROOT}/worker/demo/applications.json' > bin/kubectl
chmod +x bin/kubectl
export PATH="$PWD/bin:$PATH"
"""

# What is there before a page begins, beside the settings of the stack.
BEFORE: Final[Mapping[str, str]] = {
    "docs/dead-letters.md": f"echo '{REFUSED}' | sre-domain publish -",
    "docs/queries.md": f"echo '{CREATED}' | sre-domain publish -",
    "docs/signatures.md": f"python - <<'END'\n{VECTOR_KEY}\nEND",
    "docs/sources.md": SOURCES,
    "docs/transport.md": "mkdir secrets; touch kafka-ca.pem; printf secret > secrets/SRE_KAFKA_OAUTH_CLIENT_SECRET",
}
# Places of an example that are others here.
ELSEWHERE: Final[Mapping[str, str]] = {"/etc/sre-domain/": "./", "/run/secrets/sre-domain": "./secrets"}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Shell]:
    shell = new_shell(tmp_path, dict(os.environ))
    with shell.service("sre-domain dev", until="Ctrl-C stops it all"):
        yield shell


@pytest.mark.timeout(600)  # some sixty programs start, one after the other
def test_the_blocks_of_every_page_run_and_put_out_what_is_shown(stack: Shell) -> None:
    failures: list[Exception] = []
    for page, blocks in walked_pages().items():
        try:
            walk_page(stack, page, blocks)
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise ExceptionGroup(f"{len(failures)} pages don't do what they say", failures)


def walk_page(stack: Shell, page: str, blocks: list[Block]) -> None:
    shell = stack.within(stack.directory / re.sub(r"\W", "-", page))
    (shell.directory / ".sre-domain").symlink_to(stack.directory / ".sre-domain")
    for name in ("examples", "schemas"):
        (shell.directory / name).symlink_to(ROOT / name)
    shell.run('. .sre-domain/env\nexport BOOTSTRAP="$SRE_KAFKA_BOOTSTRAP_SERVERS"')
    shell.run(BEFORE.get(page, ":"))
    superuser, reader = (shell.run(f'printf %s "$SRE_{role}_DATABASE_URL"') for role in ("MIGRATE", "QUERY"))
    with psycopg.connect(superuser) as owner, psycopg.connect(reader, autocommit=True) as asker:
        for block in blocks:
            try:
                if block.language == "sql":
                    asks = block.code.startswith("SELECT") and "sre_query." in block.code
                    (asker if asks else owner).execute(block.code.encode())
                    owner.rollback()  # a slot is not made while somebody writes
                else:
                    run_block(shell, elsewhere(block))
            except (AssertionError, psycopg.Error, subprocess.TimeoutExpired) as error:
                raise AssertionError(f"{block.page}:{block.line}: {error}") from error


def elsewhere(block: Block) -> Block:
    return replace(block, code=reduce(lambda code, place: code.replace(*place), ELSEWHERE.items(), block.code))
