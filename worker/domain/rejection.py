"""Why an intent was refused: returned, recorded and published; never raised."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from worker.domain.fields import Bytes, Int32, Int64, String, Timestamp

_MOST_VIOLATIONS = 1000  # more than a record has that is within its limits
_MOST_IN_SENTENCE = 50


class RejectionCode(StrEnum):
    """On the wire: members are added, never renamed. docs/contract.md says when each applies."""

    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    TENANT_REQUIRED = "TENANT_REQUIRED"
    TENANT_MISMATCH = "TENANT_MISMATCH"
    SIGNATURE_REQUIRED = "SIGNATURE_REQUIRED"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    KEY_UNKNOWN = "KEY_UNKNOWN"
    KEY_REVOKED = "KEY_REVOKED"
    NOT_AUTHORISED = "NOT_AUTHORISED"
    SCHEMA_INVALID = "SCHEMA_INVALID"
    UNKNOWN_INTENT = "UNKNOWN_INTENT"
    TIMESTAMP_IN_FUTURE = "TIMESTAMP_IN_FUTURE"
    INTENT_EXPIRED = "INTENT_EXPIRED"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    VERSION_CONFLICT = "VERSION_CONFLICT"
    RESOURCE_REF_INVALID = "RESOURCE_REF_INVALID"
    INTERNAL_ERROR = "INTERNAL_ERROR"

    INCIDENT_NOT_FOUND = "INCIDENT_NOT_FOUND"
    INCIDENT_ALREADY_EXISTS = "INCIDENT_ALREADY_EXISTS"
    INVALID_TRANSITION = "INVALID_TRANSITION"
    USE_DEDICATED_INTENT = "USE_DEDICATED_INTENT"
    ALREADY_ACKNOWLEDGED = "ALREADY_ACKNOWLEDGED"
    INCIDENT_CLOSED = "INCIDENT_CLOSED"
    INCIDENT_NOT_RESOLVED = "INCIDENT_NOT_RESOLVED"
    SEVERITY_UNCHANGED = "SEVERITY_UNCHANGED"
    ASSIGNEE_REQUIRED = "ASSIGNEE_REQUIRED"
    RESOLUTION_REQUIRED = "RESOLUTION_REQUIRED"
    TIMELINE_KIND_UNKNOWN = "TIMELINE_KIND_UNKNOWN"
    TIMESTAMP_REGRESSION = "TIMESTAMP_REGRESSION"
    MERGE_TARGET_INVALID = "MERGE_TARGET_INVALID"

    ALERT_LABELS_EMPTY = "ALERT_LABELS_EMPTY"
    FINGERPRINT_REQUIRED = "FINGERPRINT_REQUIRED"
    FINGERPRINT_MISMATCH = "FINGERPRINT_MISMATCH"
    ALERT_STATUS_INVALID = "ALERT_STATUS_INVALID"
    ALERT_TIME_RANGE_INVALID = "ALERT_TIME_RANGE_INVALID"
    ALERT_STALE = "ALERT_STALE"
    ALERT_NOT_FOUND = "ALERT_NOT_FOUND"
    ALERT_NOT_FIRING = "ALERT_NOT_FIRING"
    CORRELATION_EMPTY = "CORRELATION_EMPTY"
    ALERT_ALREADY_CORRELATED = "ALERT_ALREADY_CORRELATED"
    INCIDENT_NOT_OPEN = "INCIDENT_NOT_OPEN"

    RUNBOOK_NOT_FOUND = "RUNBOOK_NOT_FOUND"
    RUNBOOK_ALREADY_EXISTS = "RUNBOOK_ALREADY_EXISTS"
    STEPS_EMPTY = "STEPS_EMPTY"
    STEP_ID_DUPLICATE = "STEP_ID_DUPLICATE"
    AUTOMATION_LEVEL_INVALID = "AUTOMATION_LEVEL_INVALID"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    APPROVER_IS_REQUESTER = "APPROVER_IS_REQUESTER"
    APPROVAL_EXPIRED = "APPROVAL_EXPIRED"
    EXECUTION_NOT_FOUND = "EXECUTION_NOT_FOUND"
    EXECUTION_TERMINAL = "EXECUTION_TERMINAL"

    SLO_NOT_FOUND = "SLO_NOT_FOUND"
    SLO_ALREADY_EXISTS = "SLO_ALREADY_EXISTS"
    SLO_TARGET_OUT_OF_RANGE = "SLO_TARGET_OUT_OF_RANGE"
    SLO_WINDOW_UNSUPPORTED = "SLO_WINDOW_UNSUPPORTED"
    SLI_SPEC_INVALID = "SLI_SPEC_INVALID"
    SLI_COUNTS_INVALID = "SLI_COUNTS_INVALID"
    SLI_WINDOW_MISALIGNED = "SLI_WINDOW_MISALIGNED"
    SLI_WINDOW_OVERLAP = "SLI_WINDOW_OVERLAP"
    SLI_WINDOW_CONFLICT = "SLI_WINDOW_CONFLICT"
    SLI_WINDOW_EXPIRED = "SLI_WINDOW_EXPIRED"

    HEALTH_STATUS_INVALID = "HEALTH_STATUS_INVALID"
    HEALTH_SOURCE_INVALID = "HEALTH_SOURCE_INVALID"
    HEALTH_STALE = "HEALTH_STALE"
    FLEET_COUNTS_MISMATCH = "FLEET_COUNTS_MISMATCH"
    FLEET_COUNT_NEGATIVE = "FLEET_COUNT_NEGATIVE"
    FLEET_STALE = "FLEET_STALE"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks the rule behind the code; a header by its name, a list item as `steps[2].step_id`."""

    field: String
    message: String


@dataclass(frozen=True, slots=True)
class Rejection:
    """The deciding code, a sentence for people, and every field that fails with that code (none where the rule names no field)."""

    code: RejectionCode
    message: str
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHeader:
    name: String
    value: Bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRejected:
    """A refused record as it goes out: why, where it lies, and its bytes (cut where they are huge; size and digest are of the whole)."""

    code: String
    message: String
    violations: tuple[Violation, ...] = ()
    topic: String
    partition: Int32
    offset: Int64
    broker_timestamp: Timestamp
    key: Bytes | None = None
    headers: tuple[RecordHeader, ...] = ()
    value: Bytes | None = None
    value_size: Int64
    value_sha256: String


def refuse_fields(code: RejectionCode, faults: dict[str, str]) -> Rejection:
    """A rejection whose sentence is read off the fields that fail, or the first of them: it has to fit the outbox."""
    named = tuple(Violation(field, fault) for field, fault in islice(faults.items(), _MOST_VIOLATIONS))
    message = "; ".join(f"{violation.field} {violation.message}" for violation in named[:_MOST_IN_SENTENCE])
    more = len(faults) - _MOST_IN_SENTENCE
    return Rejection(code, f"{message}; and {more} more" if more > 0 else message, named)


def refuse_other_version(expected: int | None, stored: int) -> Rejection | None:
    """For an intent that was asked for on another version than the stored one; None where it names none."""
    if expected is None or expected == stored:
        return None
    return refuse_fields(RejectionCode.VERSION_CONFLICT, {"expected_version": f"must be the stored version, {stored}"})
