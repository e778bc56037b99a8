"""Which blocks of the pages tests/acceptance/test_code_blocks.py runs, and why not the others: the one place where that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.blocks import PAGES, RUN, blocks_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.blocks import Block

# By page and how the block begins. A test that is named runs the block in another way.
NOT_WALKED: Final[Mapping[tuple[str, str], str]] = {
    ("README.md", "make demo"): "installs everything; tests/acceptance/test_demo.py",
    ("README.md", "make test"): "is what runs this",
    ("README.md", "make dev"): "installs everything; the stack that the blocks run on is started as `sre-domain dev`",
    ("README.md", "make bench"): "loads the machine for minutes",
    ("CONTRIBUTING.md", "make lint"): "is what continuous integration runs, and so runs this",
    ("CONTRIBUTING.md", ".venv/bin/python -m pytest"): "is a part of what runs this",
    ("CONTRIBUTING.md", "make fuzz"): "loads the machine for minutes; tests/unit/hostile/test_corpus.py",
    ("CONTRIBUTING.md", "uv pip compile"): "asks for new versions of everything; tests/unit/test_pages.py",
    ("docs/debezium.md", "SRE_RELAY_SLOT=sre_debezium"): "needs an outbox that no relay serves; tests/acceptance/test_debezium.py",
    ("docs/debezium.md", "mvn"): "fetches what Maven has; tests/acceptance/test_debezium.py",
    ("docs/debezium.md", "curl -X PUT -H"): "asks Kafka Connect; tests/acceptance/test_debezium.py",
    ("docs/debezium.md", "sre-domain relay hand-over"): "needs a relay that has ended; tests/acceptance/test_debezium.py",
    ("docs/debezium.md", "curl -X PUT localhost:8083"): "asks Kafka Connect; tests/acceptance/test_debezium.py",
    ("docs/debezium.md", "SELECT pg_drop_replication_slot"): "needs Debezium's slot; tests/acceptance/test_debezium.py",
    ("docs/debezium.md", "kafka-transactions.sh"): "asks Kafka Connect's broker",
    ("docs/debezium.md", "sre-domain relay rebuild"): "needs a relay that has ended; tests/acceptance/test_debezium.py",
    ("docs/kubernetes.md", "docker build"): "needs an engine; tests/k8s/test_image.py",
    ("docs/kubernetes.md", "cd k8s/"): "needs kustomize; tests/k8s/test_schemas.py",
    ("docs/kubernetes.md", "kubectl apply"): "needs a cluster; tests/k8s/test_schemas.py",
    ("docs/schemas.md", "export SRE_SCHEMA_REGISTRY_URL"): "needs a registry; tests/acceptance/test_schema_registry.py",
    ("docs/tutorial.md", "make dev"): "as in README.md",
    ("examples/README.md", "make dev"): "as in README.md",
    ("docs/projection.md", "TABLES ="): "tests/unit/test_examples.py",
    ("docs/projection.md", "incidents = OpenIncidents"): "goes on for ever; tests/acceptance/test_projection.py",
    ("docs/projection.md", "FactReader("): "is a part of a program",
    ("docs/sources.md", "sre-domain poll prometheus"): "goes on for ever; tests/acceptance/test_real_prometheus.py",
    ("docs/sources.md", "sre-domain bridge alertmanager"): "goes on for ever; tests/acceptance/test_real_alertmanager.py",
}
# README.md's chapter on one's own servers is walked there: tests/acceptance/test_readme.py.
OWN_SERVERS: Final = ("README.md", "On your own Kafka and PostgreSQL")


def is_walked(block: Block) -> bool:
    return block.language in RUN and not any(block.page == page and block.code.startswith(beginning) for page, beginning in NOT_WALKED)


def walked_pages() -> dict[str, list[Block]]:
    """The blocks that are run by page, README.md first, while nothing else has happened."""
    pages = {page: [block for block in blocks_of(page) if is_walked(block) and (page, block.heading) != OWN_SERVERS] for page in PAGES}
    return {page: blocks for page, blocks in sorted(pages.items(), key=lambda item: item[0] != "README.md") if blocks}
