"""docs/debezium.md explains every setting of the files in examples/debezium, and none that isn't there."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "debezium"
PAGE = (ROOT / "docs" / "debezium.md").read_text(encoding="utf-8")


def explained(title: str) -> set[str]:
    """The names in the first column of the section's table."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    first_cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`([a-z.]+)`", " ".join(first_cells)))


def test_every_setting_of_the_connector_is_explained() -> None:
    names = set(json.loads((EXAMPLES / "connector.json").read_text()))
    names = {name.removesuffix(".schemas.enable") for name in names}
    assert explained("The connector, value by value") - {"schemas.enable"} == names


def test_every_setting_of_the_worker_is_explained() -> None:
    lines = (EXAMPLES / "worker.properties").read_text().splitlines()
    assert explained("Kafka Connect, value by value") == {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
