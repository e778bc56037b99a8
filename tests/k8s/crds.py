"""Makes tests/k8s/schemas: the operators' own CRDs, cut down to the fields that our manifests use.

    python -m tests.k8s.crds

fetches each operator's release by its registry's client (Go, Maven) and writes a file a kind; Strimzi's generator needs Java 21, of
JAVA_21_HOME or the PATH. What the manifests newly use is unknown to the tests until this has been run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.k8s.kustomize import TREES, manifests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCHEMAS: Final = Path(__file__).parent / "schemas"
LICENCE: Final = "Apache-2.0"
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """A Go module with its release, and by kind the file in it."""

    module: str
    version: str
    files: dict[str, str]


SOURCES: Final = (
    Source(
        "github.com/argoproj/argo-cd/v3",
        "v3.5.1",
        {"Application": "manifests/crds/application-crd.yaml", "AppProject": "manifests/crds/appproject-crd.yaml"},
    ),
    Source("github.com/cloudnative-pg/cloudnative-pg", "v1.30.0", {"Cluster": "config/crd/bases/postgresql.cnpg.io_clusters.yaml"}),
    Source(
        "github.com/external-secrets/external-secrets",
        "v1.3.2",
        {
            "ExternalSecret": "config/crds/bases/external-secrets.io_externalsecrets.yaml",
            "SecretStore": "config/crds/bases/external-secrets.io_secretstores.yaml",
            "Password": "config/crds/bases/generators.external-secrets.io_passwords.yaml",
        },
    ),
    Source(
        "github.com/kedacore/keda/v2",
        "v2.20.2",
        {
            "ScaledObject": "config/crd/bases/keda.sh_scaledobjects.yaml",
            "TriggerAuthentication": "config/crd/bases/keda.sh_triggerauthentications.yaml",
        },
    ),
    Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.93.0",
        {
            "PrometheusRule": "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
            "ServiceMonitor": "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        },
    ),
)
STRIMZI: Final = "1.2.0"
STRIMZI_KINDS: Final = {
    "KafkaTopic": "io.strimzi.api.kafka.model.topic.KafkaTopic",
    "KafkaUser": "io.strimzi.api.kafka.model.user.KafkaUser",
}
_POM: Final = """<project><modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>x</artifactId><version>1</version><dependencies>
<dependency><groupId>io.strimzi</groupId><artifactId>crd-generator</artifactId><version>{0}</version></dependency>
<dependency><groupId>io.strimzi</groupId><artifactId>api</artifactId><version>{0}</version></dependency></dependencies></project>
"""


def main() -> None:
    found = [manifest for tree in TREES for manifest in manifests(tree)]
    for kind, origin, crd in _all_crds():
        ours = [manifest for manifest in found if manifest["kind"] == kind]
        group, version = ours[0]["apiVersion"].split("/")
        assert crd["spec"]["group"] == group, f"{kind} is of group {crd['spec']['group']}"
        (schema,) = (one["schema"]["openAPIV3Schema"] for one in crd["spec"]["versions"] if one["name"] == version and one["served"])
        reduced: Schema = {"$comment": f"{group}/{version} {kind}: {origin}, {LICENCE}; only what our manifests use, without descriptions"}
        reduced |= cut(schema, ours)
        reduced["properties"]["metadata"] = {"type": "object"}
        (SCHEMAS / f"{kind}.json").write_text(json.dumps(reduced, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def cut(schema: Schema, values: Sequence[Any]) -> Schema:
    """The schema without what none of the values uses, as JSON Schema; an object takes no other fields than those that are left."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept: Schema = {
        name: schema[name] for name in ("type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength") if name in schema
    }
    kept |= {name: schema[name] for name in ("minItems", "maxItems", "minProperties", "maxProperties") if name in schema}
    if required := [name for name in schema.get("required", ()) if "default" not in schema["properties"][name]]:
        kept["required"] = required
    if schema.get("nullable"):
        kept["type"] = [kept["type"], "null"]
    if "properties" in schema:
        used = {name for value in values if isinstance(value, dict) for name in value} | set(required)
        kept["properties"] = {
            name: cut(schema["properties"][name], [value[name] for value in values if isinstance(value, dict) and name in value])
            for name in sorted(used & set(schema["properties"]))
        }
        kept["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(schema.get("additionalProperties"), dict):
        members = [member for value in values if isinstance(value, dict) for member in value.values()]
        kept["additionalProperties"] = cut(schema["additionalProperties"], members)
    if "items" in schema:
        kept["items"] = cut(schema["items"], [item for value in values if isinstance(value, list) for item in value])
    return kept


def _all_crds() -> Iterator[tuple[str, str, Schema]]:
    for source in SOURCES:
        directory = _module(source)
        for kind, file in source.files.items():
            yield kind, f"{source.module}@{source.version}/{file}", yaml.safe_load((directory / file).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        for kind, crd in _strimzi(Path(scratch).resolve()):
            yield kind, f"io.strimzi:crd-generator:{STRIMZI} on io.strimzi:api:{STRIMZI}", crd


def _module(source: Source) -> Path:
    told = _run(["go", "mod", "download", "-json", f"{source.module}@{source.version}"])
    return Path(json.loads(told)["Dir"])


def _strimzi(directory: Path) -> Iterator[tuple[str, Schema]]:
    (directory / "pom.xml").write_text(_POM.format(STRIMZI), encoding="utf-8")
    _run(["mvn", "-q", "-f", str(directory / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={directory / 'lib'}"])
    java = Path(os.environ["JAVA_21_HOME"], "bin", "java") if "JAVA_21_HOME" in os.environ else Path("java")
    files = {kind: directory / f"{kind}.yaml" for kind in STRIMZI_KINDS}
    wanted = [f"{STRIMZI_KINDS[kind]}={file}" for kind, file in files.items()]
    _run([str(java), "-cp", str(directory / "lib" / "*"), "io.strimzi.crdgenerator.CrdGenerator", "--yaml", *wanted])
    for kind, file in files.items():
        yield kind, yaml.safe_load(file.read_text(encoding="utf-8"))


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, timeout=600).stdout


if __name__ == "__main__":
    main()
