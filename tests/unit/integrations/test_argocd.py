"""Argo CD's Applications as kubectl and Argo CD print them, and `sre-domain import argocd`; Kafka stands aside."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from worker.cli import import_argocd
from worker.codec import load_codec
from worker.domain import fleetstate, healthcheck
from worker.domain.outcome import Context
from worker.errors import WorkerError
from worker.integrations import kubectl_output
from worker.integrations.argocd import Application, Report, fleet_state, health_checks, read_applications
from worker.integrations.kubectl_output import KubectlOutputError, read_items

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typer.testing import Result

    from worker.client import Outgoing
    from worker.settings import KafkaSettings

REAL = Path(__file__).parents[3].parent / "shared" / "real-inputs" / "argocd"
AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def app(name: str = "checkout", health: str | None = "Healthy", sync: str = "Synced", **metadata: object) -> dict[str, Any]:
    status: dict[str, Any] = {"sync": {"status": sync}} | ({} if health is None else {"health": {"status": health}})
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": "argocd"} | metadata,
        "spec": {"destination": {"namespace": "payments", "server": "https://kubernetes.default.svc"}},
        "status": status,
    }


def listed(*items: object, **metadata: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items), "metadata": metadata}


def event(kind: str, value: object) -> dict[str, Any]:
    return {"type": kind, "object": value}


def read(*documents: object) -> tuple[list[Application], Report]:
    return read_applications("\n".join(map(json.dumps, documents)).encode())


def names(applications: Iterable[Application]) -> list[str]:
    return [application.name for application in applications]


def health_of(value: dict[str, Any]) -> str:
    (application,), _ = read(value)
    return application.health


# --- What kubectl and Argo CD print

FORMS = {
    "kubectl get -o json": json.dumps(listed(app("a"), app("b"))),
    "kubectl get -o json, indented": json.dumps(listed(app("a"), app("b")), indent=4),
    "kubectl get -o yaml": yaml.safe_dump(listed(app("a"), app("b"))),
    "kubectl get --raw": json.dumps(listed(app("a"), app("b")) | {"kind": "ApplicationList", "apiVersion": "argoproj.io/v1alpha1"}),
    "argocd app list -o json": json.dumps([app("a"), app("b")]),
    "argocd app list -o yaml": yaml.safe_dump([app("a"), app("b")]),
    "the API's list": json.dumps({"metadata": {}, "items": [{k: app(n)[k] for k in ("metadata", "spec", "status")} for n in "ab"]}),
    "kubectl get --watch -o json": json.dumps(app("a"), indent=2) + "\n" + json.dumps(app("b"), indent=2),
    "kubectl get --watch -o json, unbroken": json.dumps(app("a")) + json.dumps(app("b")),
    "kubectl get --watch -o yaml": yaml.safe_dump_all([app("a"), app("b")]),
    "yaml documents with an empty one": "---\n---\n" + yaml.safe_dump_all([app("a"), app("b")], explicit_start=True) + "---\n",
    "kubectl get --output-watch-events": "\n".join(json.dumps(event("ADDED", app(name))) for name in "ab"),
    "watch events in yaml": yaml.safe_dump_all(event("ADDED", app(name)) for name in "ab"),
    "the API's stream": "".join(json.dumps({"result": {"type": "ADDED", "application": app(name)}}) + "\n" for name in "ab"),
    "jq -s over lists": json.dumps([listed(app("a")), listed(app("b"))]),
    "with a byte order mark": "\ufeff" + json.dumps(listed(app("a"), app("b"))),
    "with line ends of Windows": json.dumps(listed(app("a"), app("b")), indent=4).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_each_form_gives_the_same_applications(text: str) -> None:
    applications, report = read_applications(text.encode())
    assert [(one.name, one.namespace, one.health) for one in applications] == [("a", "payments", "Healthy"), ("b", "payments", "Healthy")]
    assert report == Report(items=2, older=0, deleted=0, left_out={})


def test_yaml_scalars_stay_the_text_they_are() -> None:
    text = yaml.safe_dump(app()).replace("name: checkout", "name: 2026-03-02").replace("namespace: payments", "namespace: on")
    (application,), _ = read_applications(text.encode())
    assert application.ref("c") == "c/on/2026-03-02"
    (application,), _ = read_applications(yaml.safe_dump(app("null")).encode())
    assert application.name == "null"


@pytest.mark.parametrize("null", ["", "~", "null", "{}"])
def test_a_status_without_anything_in_it_is_unknown_in_yaml_too(null: str) -> None:
    text = yaml.safe_dump({key: value for key, value in app().items() if key != "status"}) + f"status: {null}\n"
    (application,), _ = read_applications(text.encode())
    assert (application.health, application.reported, application.out_of_sync) == ("Unknown", None, False)


# --- From Application to check and count


@pytest.mark.parametrize(
    ("health", "status", "counted"),
    [
        ("Healthy", "healthy", "healthy_count"),
        ("Progressing", "degraded", "progressing_count"),
        ("Suspended", "degraded", "progressing_count"),
        ("Degraded", "unhealthy", "degraded_count"),
        ("Missing", "unhealthy", "degraded_count"),
        ("Unknown", "unknown", "unknown_count"),
    ],
)
def test_each_health_has_its_status_and_its_count(health: str, status: str, counted: str) -> None:
    applications, _ = read(app(health=health))
    (check,) = health_checks(applications, "prod-eu", AT)
    assert (check.resource_ref, check.source, check.timestamp) == ("prod-eu/payments/checkout", "argocd", AT)
    assert (check.status, check.raw_status) == (status, health)
    fleet = fleet_state(applications, "production", "prod-eu", AT)
    assert {name: getattr(fleet, name) for name in fleetstate.HEALTH_COUNTS} == dict.fromkeys(fleetstate.HEALTH_COUNTS, 0) | {counted: 1}


@pytest.mark.parametrize(
    "value",
    [
        app(health=None),
        app() | {"status": {}},
        app() | {"status": None},
        {key: value for key, value in app().items() if key != "status"},
        app() | {"status": {"health": {}}},
        app() | {"status": {"health": {"status": ""}}},
        app(health="Fine"),
        app(health="healthy"),
    ],
)
def test_an_application_without_one_of_the_six_states_is_unknown(value: dict[str, Any]) -> None:
    assert health_of(value) == "Unknown"


@pytest.mark.parametrize(("sync", "counted"), [("OutOfSync", 1), ("Synced", 0), ("Unknown", 0), ("", 0)])
def test_only_out_of_sync_counts_as_out_of_sync(sync: str, counted: int) -> None:
    applications, _ = read(app(sync=sync))
    assert fleet_state(applications, "production", "prod-eu", AT).out_of_sync_count == counted


def test_conditions_hold_while_argo_cd_lists_them() -> None:
    value = app()
    value["status"]["conditions"] = [
        {"type": "ComparisonError", "message": "bad \x1b[31mpath\ud800\n", "lastTransitionTime": "2026-03-02T12:00:00Z"},
        {"type": "SyncError"},
        {"type": "T" * 300, "message": "m" * 5000},
    ]
    (application,), _ = read(value)
    assert application.conditions == (
        healthcheck.HealthCondition(type="ComparisonError", status="true", message="bad  [31mpath?\n"),
        healthcheck.HealthCondition(type="SyncError", status="true"),
        healthcheck.HealthCondition(type="T" * 100, status="true", message="m" * 1000),
    )
    value["status"]["conditions"] *= 100
    (application,), _ = read(value)
    assert len(application.conditions) == 50


def test_fifty_long_conditions_fit_a_record_in_any_script() -> None:
    value = app()
    value["status"]["conditions"] = [{"type": "C", "message": "🙂" * 5000}] * 60
    applications, _ = read(value)
    (check,) = health_checks(applications, "prod-eu", AT)
    assert len(load_codec().encode("RecordHealthCheckRequested", check)) < 256 * 1024


def test_without_a_destination_namespace_the_level_is_a_dash() -> None:
    applications, _ = read(app() | {"spec": {"destination": {"name": "in-cluster"}}}, app("other") | {"spec": {}})
    assert [check.resource_ref for check in health_checks(applications, "c", AT)] == ["c/-/checkout", "c/-/other"]


def test_applications_that_share_a_ref_are_all_counted_and_checked_once() -> None:
    applications, _ = read(app(health="Degraded"), app(namespace="team-a"))
    assert [check.status for check in health_checks(applications, "c", AT)] == ["unhealthy"]
    assert fleet_state(applications, "production", "c", AT).total_applications == 2


# --- Versions


def test_the_last_of_several_versions_is_taken() -> None:
    applications, report = read(app(health="Degraded"), app("other"), app(health="Healthy"))
    assert [(one.name, one.health) for one in applications] == [("checkout", "Healthy"), ("other", "Healthy")]
    assert report == Report(items=3, older=1, deleted=0, left_out={})


def test_a_version_that_is_older_by_number_does_not_come_back() -> None:
    applications, _ = read(app(health="Healthy", resourceVersion="1000"), app(health="Degraded", resourceVersion="999"))
    assert [one.health for one in applications] == ["Healthy"]


def test_applications_of_one_name_in_two_namespaces_of_argo_cd_are_two() -> None:
    applications, report = read(app(), app(namespace="team-a"))
    assert (len(applications), report.older) == (2, 0)


def test_a_deleted_application_is_gone_until_it_is_added_again() -> None:
    events = [event("ADDED", app(resourceVersion="1")), event("ADDED", app("b")), event("DELETED", app(resourceVersion="2"))]
    applications, report = read(*events)
    assert (names(applications), report) == (["b"], Report(items=3, older=1, deleted=1, left_out={}))
    applications, report = read(*events, event("ADDED", app(resourceVersion="3")))
    assert (sorted(names(applications)), report.deleted) == (["b", "checkout"], 0)


def test_what_is_no_application_is_left_out_and_named() -> None:
    bookmark = event("BOOKMARK", {"kind": "Application", "metadata": {"resourceVersion": "7"}})
    expired = event("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
    other = {"apiVersion": "app.k8s.io/v1beta1", "kind": "Application", "metadata": {"name": "x"}}
    project = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "default"}}
    applications, report = read(bookmark, expired, listed(app(), other, project), {"error": {"message": "EOF"}})
    assert names(applications) == ["checkout"]
    assert report.left_out == {
        1: "BOOKMARK, no change",
        2: "ERROR, no change",
        4: "Application of 'app.k8s.io/v1beta1'",
        5: "AppProject of 'argoproj.io/v1alpha1'",
        6: "an object of no kind",
    }


# --- Broken input


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: part for key, part in value.items() if key != name}


BROKEN = {
    "nothing": (b"", "is empty"),
    "only space": (b" \n", "is empty"),
    "only empty documents": (b"---\n---\n", "is empty"),
    "no UTF-8": (b'{"a": "\xff"}', "is not UTF-8 from byte 7 on"),
    "UTF-16 of PowerShell": ("{}".encode("utf-16"), "is not UTF-8"),
    "a line of text": (b"error: the server doesn't have a resource type", "holds no Argo CD Application"),
    "a word": (b"Unauthorized", "item 1: must be an object"),
    "HTML": (b"<html><body>502 Bad Gateway</body></html>", "item 1: must be an object"),
    "cut JSON": (json.dumps(listed(app()), indent=1).encode()[:-30], "line "),
    "a cut stream": ((json.dumps(app()) + "\n" + json.dumps(app())[:40]).encode(), "line 2, column "),
    "a number of many digits": (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    "deep JSON": (b"[" * 200_000, "is nested too deeply"),
    "deep YAML": (b"a: " + b"[" * 200_000, "line 1: "),
    "deep YAML within the parser's limit": (b"- " + b"[" * 990 + b"]" * 990, "is nested too deeply"),
    "cut YAML": (b"a: 'b", "line 1: "),
    "a tab in YAML": (b"a:\n\tb: c\n", "line 2: "),
    "a control character": (b"a: \x07\n", "control characters are not allowed"),
    "a YAML bomb": (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 1: anchors and aliases are not read"),
    "an alias to nothing": (b"a: *a\n", "line 1: anchors and aliases are not read"),
    "a mapping as a key": (b"? {a: b}\n: c\n", "line 1: a field's name must be text"),
    "another list": (json.dumps(listed({"kind": "Pod", "apiVersion": "v1"})).encode(), "holds no Argo CD Application"),
    "an error of the API": (json.dumps({"error": "token is expired", "code": 16}).encode(), "holds no Argo CD Application"),
    "one page": (json.dumps(listed(app(), **{"continue": "abc"})).encode(), "is one page of a longer list"),
    "an item that is text": (json.dumps(listed(app(), "b")).encode(), "item 2: must be an object"),
    "an item that is null": (json.dumps(listed(app(), None)).encode(), "item 2: must be an object"),
    "an event of nothing": (json.dumps(event("ADDED", None)).encode(), "item 1: must hold an object"),
    "no metadata": (json.dumps(listed(app(), without(app(), "metadata"))).encode(), "item 2: metadata.name is missing"),
    "no name": (json.dumps(app("")).encode(), "item 1: metadata.name is missing"),
    "a name that is a number": (json.dumps(app() | {"metadata": {"name": 7}}).encode(), "item 1: name must be text"),
    "a status that is text": (json.dumps(app() | {"status": "Healthy"}).encode(), "item 1: status must be an object"),
    "a health that is text": (json.dumps(app() | {"status": {"health": "Healthy"}}).encode(), "item 1: health must be an object"),
    "a health of a list": (json.dumps(app() | {"status": {"health": {"status": []}}}).encode(), "item 1: status must be text"),
    "a spec that is a list": (json.dumps(app() | {"spec": []}).encode(), "item 1: spec must be an object"),
    "conditions by name": (json.dumps(app() | {"status": {"conditions": {"a": 1}}}).encode(), "item 1: conditions must be a list"),
    "conditions of text": (json.dumps(app() | {"status": {"conditions": ["a"]}}).encode(), "item 1: conditions must be a list of objects"),
    "a condition without type": (json.dumps(app() | {"status": {"conditions": [{}]}}).encode(), "item 1: a condition has no type"),
    "a name that makes no ref": (
        json.dumps(app("two\nlines")).encode(),
        r"item 1: 'prod-eu/payments/two\nlines' is no cluster/namespace/app",
    ),
    "a name with half a pair": (json.dumps(app("a\ud800")).encode(), r"item 1: 'prod-eu/payments/a\ud800' is no cluster/namespace/app"),
}


@pytest.mark.parametrize(("data", "says"), BROKEN.values(), ids=BROKEN)
def test_broken_input_is_one_line_that_says_where(data: bytes, says: str) -> None:
    with pytest.raises(KubectlOutputError) as raised:
        health_checks(read_applications(data)[0], "prod-eu", AT)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_an_input_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl_output, "MAX_BYTES", 10 << 20)
    with pytest.raises(KubectlOutputError, match="is larger than 10 MiB"):
        read_items(b" " * ((10 << 20) + 1))


def test_the_pages_of_a_list_one_after_another_are_the_list() -> None:
    applications, _ = read(listed(app("a"), **{"continue": "abc"}), listed(app("b")))
    assert names(applications) == ["a", "b"]


def test_a_list_of_none_is_a_fleet_of_none() -> None:
    for text in (json.dumps(listed()), json.dumps({"metadata": {}, "items": None}), "[]", yaml.safe_dump(listed())):
        applications, report = read_applications(text.encode())
        assert (applications, report) == ([], Report(items=0, older=0, deleted=0, left_out={}))
        assert fleet_state(applications, "production", "prod-eu", AT).total_applications == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["Healthy", "Application", "DELETED"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "items", "metadata", "name", "spec", "status", "health", "conditions", "type", "object", "result"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
@example({"kind": "Application", "metadata": {"name": "a"}, "status": {"conditions": [{"type": "\x00"}]}})
@example({"items": {"a": 1}})
def test_whatever_the_json_it_is_read_or_refused_and_what_is_read_passes_the_workers_checks(value: object) -> None:
    try:
        applications, report = read(value)
        checks = health_checks(applications, "prod-eu", AT)
    except KubectlOutputError:
        return
    assert report.items == len(applications) + report.older + report.deleted + len(report.left_out)
    for check in checks:
        subject = healthcheck.healthcheck_id("acme", check.resource_ref, check.source)
        assert healthcheck.check(check, Context("acme", subject, AT)) is None


@given(st.binary(max_size=40) | st.text("[]{}:,-&*!|>'\"#%@ \n\tab", max_size=40).map(str.encode))
def test_whatever_the_bytes_they_are_read_or_refused(data: bytes) -> None:
    with suppress(KubectlOutputError):
        read_items(data)


# --- The command


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """What was published, in order."""
    records: list[Outgoing] = []

    def publish(_: KafkaSettings, outgoing: Iterable[Outgoing]) -> int:
        before = len(records)
        records.extend(outgoing)
        return len(records) - before

    monkeypatch.setattr(import_argocd, "publish", publish)
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return records


def run(*arguments: str, stdin: bytes = b"") -> Result:
    command = typer.Typer()
    command.command()(import_argocd.argocd)
    options = {"--tenant": "acme", "--environment": "production", "--cluster": "prod-eu", "--at": "2026-03-02T12:00:00Z"}
    for option, value in options.items():
        if option not in arguments:
            arguments = (*arguments, option, value)
    return CliRunner().invoke(command, arguments, input=stdin)


def headers(record: Outgoing) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


def test_a_list_becomes_a_fleet_state_and_a_check_of_each(sent: list[Outgoing]) -> None:
    missing = app("gone", "Missing", "OutOfSync")
    text = json.dumps(listed(app(), missing, app("new", None), app("odd", "Fine"), app(namespace="team-a"), {"kind": "Pod"}))
    result = run("-", stdin=text.encode())
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "6 items: 5 Applications, 0 older versions, 0 deleted, 1 left out",
        "  item 6: Pod of None",
        "5 Applications: 2 healthy, 1 degraded, 0 progressing, 2 unknown; 1 out of sync",
        "  unknown for want of any health: 1",
        "  odd: unknown, since 'Fine' is none of Argo CD's health states",
        "  counted without a check, since another has the same namespace and name: 1",
        "1 fleet state and 4 health checks, as of 2026-03-02T12:00:00.000000Z",
        "5 intents published",
    ]
    fleet, *checks = sent
    assert (fleet.topic, fleet.key) == ("sre.fleetstate.intents.v1", fleetstate.stream_id("acme", "production", "prod-eu").encode())
    assert load_codec().decode("RecordFleetStateRequested", fleet.value) == {
        "environment_id": "production",
        "cluster_id": "prod-eu",
        "timestamp": int(AT.timestamp()) * 1_000_000,
        "total_applications": 5,
        "healthy_count": 2,
        "degraded_count": 1,
        "progressing_count": 0,
        "unknown_count": 2,
        "out_of_sync_count": 1,
    }
    decoded = [load_codec().decode("RecordHealthCheckRequested", record.value) for record in checks]
    assert [(check["resource_ref"], check["status"], check["raw_status"]) for check in decoded] == [
        ("prod-eu/payments/checkout", "healthy", "Healthy"),
        ("prod-eu/payments/gone", "unhealthy", "Missing"),
        ("prod-eu/payments/new", "unknown", "Unknown"),
        ("prod-eu/payments/odd", "unknown", "Unknown"),
    ]
    assert {check["timestamp"] for check in decoded} == {int(AT.timestamp()) * 1_000_000}
    assert {headers(record)["ce_time"] for record in sent} == {"2026-03-02T12:00:00.000000Z"}
    assert {record.topic for record in checks} == {"sre.healthcheck.intents.v1"}


def test_a_retry_with_the_same_time_is_the_same_intents(sent: list[Outgoing], tmp_path: Path) -> None:
    file = tmp_path / "applications.json"
    file.write_text(json.dumps(listed(app(), app("other"))), encoding="utf-8")
    for arguments in ((), (), ("--at", "2026-03-02T12:00:01Z"), ("--tenant", "globex"), ("--cluster", "prod-us")):
        assert run(str(file), *arguments).exit_code == 0
    runs = [sent[at : at + 3] for at in range(0, len(sent), 3)]
    assert runs[0] == runs[1]
    assert len({headers(record)["ce_id"] for record in sent}) == 4 * 3


def test_only_the_first_that_are_left_out_are_named(sent: list[Outgoing]) -> None:
    lines = run("-", stdin=json.dumps(listed(app(), *[{"kind": "Pod"}] * 13)).encode()).stdout.splitlines()
    assert lines[10:12] == ["  item 11: Pod of None", "  and 3 more"]
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--at", "yesterday", "--at"),
        ("--at", "2026-03-02 12:00:00Z", "--at"),
        ("--cluster", "prod/eu", "--cluster"),
        ("--cluster", "prod-", "--cluster"),
        ("--cluster", "c" * 129, "--cluster"),
        ("--tenant", "a b", "--tenant"),
        ("--tenant", "\udcff", "--tenant"),
        ("--environment", "", "--environment"),
        ("--environment", "pro\nduction", "--environment"),
    ],
)
def test_a_wrong_option_is_named_and_sends_nothing(sent: list[Outgoing], option: str, value: str, says: str) -> None:
    result = run("-", option, value, stdin=json.dumps(listed(app())).encode())
    assert result.exit_code != 0
    assert says in (str(result.exception) if isinstance(result.exception, WorkerError) else result.stderr)
    assert sent == []


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file or directory"), (b"", "is empty"), (json.dumps(listed(app(), 7)).encode(), "item 2: must be an object")],
)
def test_a_file_that_cannot_be_read_is_one_line_and_sends_nothing(
    sent: list[Outgoing], tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "applications.json"
    if content is not None:
        file.write_bytes(content)
    result = run(str(file))
    assert isinstance(result.exception, WorkerError)
    assert str(result.exception) == f"{file}: {says}"
    assert sent == []


# --- Real files

READ = {
    "argo-cd-live-child-application.yaml": ("argo-workflows/argo-workflows", None, False, ()),
    "codefresh-restricted-gs-comparisonerror.yaml": ("marvel-team/restricted-gs", "Healthy", False, ("ComparisonError",)),
    "gitops-backend-application.yaml": ("dev/dev-test-app", None, False, ()),
    "gitops-backend-application2.yaml": ("production/production-test-app", None, True, ()),
    "gitops-backend-application3.yaml": ("dev/dev-app-taxi", "Healthy", False, ()),
    "myapp-watch-stream.json": ("devops/myapp", "Healthy", False, ()),
    "radarr-missing-outofsync-running.yaml": ("media/radarr", "Missing", True, ()),
    "simple-java-maven-app-outofsync-pending-operation.json": ("default/simple-java-maven-app", "Healthy", True, ()),
}


@pytest.mark.parametrize("name", READ)
def test_a_real_file_goes_through(sent: list[Outgoing], name: str) -> None:
    if not REAL.exists():
        pytest.skip("shared/real-inputs/argocd is not beside the checkout")
    (application,), _ = read_applications((REAL / name).read_bytes())
    types = tuple(condition.type for condition in application.conditions)
    assert (f"{application.namespace}/{application.name}", application.reported, application.out_of_sync, types) == READ[name]
    assert run(str(REAL / name)).exit_code == 0
    assert len(sent) == 2


def test_every_real_file_is_tested() -> None:
    if not REAL.exists():
        pytest.skip("shared/real-inputs/argocd is not beside the checkout")
    assert {path.name for path in REAL.iterdir()} == set(READ)
