"""The field types of the contract, for pydantic: a wrong shape is SCHEMA_INVALID, a wrong size LIMIT_EXCEEDED.

Values come as Avro gives them without logical types (long, bytes) or as JSON does (RFC 3339, decimal strings).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

KNOWN_FIELDS_ONLY = ConfigDict(extra="forbid")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PERCENT_PLACES = 6

_YEAR_1_US = -62_135_596_800_000_000
_YEAR_9999_US = 253_402_300_799_999_999
_LAST_PLACE = Decimal(1).scaleb(-PERCENT_PLACES)
_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LF_CR_TAB = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REF_SEGMENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_REF_LEVELS = 4  # cluster, namespace, app, pod
_MAP_NAME_LENGTH = 128
_MAP_VALUE_LENGTH = 4000
_JUDGED_ITEMS = 200  # of a list, above every limit: those behind say no more than that they are too many
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)


def wrong_shape(message: str) -> PydanticCustomError:
    return PydanticCustomError("SCHEMA_INVALID", "{message}", {"message": message})


def wrong_size(message: str) -> PydanticCustomError:
    return PydanticCustomError("LIMIT_EXCEEDED", "{message}", {"message": message})


@dataclass(frozen=True, slots=True)
class Line:
    """1 to `limit` characters on one line, not blank."""

    limit: int

    def __call__(self, value: str) -> str:
        if not value or value.isspace():
            raise wrong_shape("must not be blank")
        if _CONTROL.search(value):
            raise wrong_shape("must not hold control characters")
        if len(value) > self.limit:
            raise wrong_size(f"must have at most {self.limit} characters")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """0 to `limit` characters; LF, CR and TAB are the only control characters."""

    limit: int

    def __call__(self, value: str) -> str:
        if _CONTROL_BUT_LF_CR_TAB.search(value):
            raise wrong_shape("must not hold control characters other than LF, CR and TAB")
        if len(value) > self.limit:
            raise wrong_size(f"must have at most {self.limit} characters")
        return value


def _listed(value: str) -> str:
    # Which values are known is the aggregate's rule, with a code of its own and no limit of length.
    if _CONTROL.search(value):
        raise wrong_shape("must not hold control characters")
    return value


def slug(value: str) -> str:
    if not _SLUG.fullmatch(value):
        raise wrong_shape("must be lowercase letters and digits in parts joined by single hyphens")
    if len(value) > 64:  # noqa: PLR2004 - the contract's number
        raise wrong_size("must have at most 64 characters")
    return value


def uuid(value: str) -> str:
    """Canonical and lowercase, as RFC 9562 §4 writes it."""
    if not _UUID.fullmatch(value):
        raise wrong_shape("must be a lowercase UUID")
    return value


def name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise wrong_shape("must be letters, digits and ._- and begin with a letter or digit")
    if len(value) > 128:  # noqa: PLR2004 - the contract's number
        raise wrong_size("must have at most 128 characters")
    return value


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of the listed values, where an unknown one has no code of its own."""

    values: tuple[str, ...]

    def __call__(self, value: str) -> str:
        if value not in self.values:
            raise wrong_shape(f"must be {', '.join(self.values[:-1])} or {self.values[-1]}")
        return value


@dataclass(frozen=True, slots=True)
class AtMost:
    """A list, in its order, of at most `limit` items; around their validation, so that the work stays small where they are very many."""

    limit: int

    def __call__(self, items: object, validate: Callable[[object], tuple[Any, ...]]) -> tuple[Any, ...]:
        valid = validate(items[:_JUDGED_ITEMS] if isinstance(items, list) else items)
        if len(valid) > self.limit:
            raise wrong_size(f"must have at most {self.limit} items")
        return valid


@dataclass(frozen=True, slots=True)
class DistinctAtMost:
    """A set: duplicates are dropped, the first stays, and `limit` counts what is left; around the validation of its items."""

    limit: int

    def __call__(self, items: object, validate: Callable[[object], tuple[Any, ...]]) -> tuple[Any, ...]:
        if isinstance(items, list) and len(items) > _JUDGED_ITEMS and all(isinstance(item, str) for item in items):
            items = list(dict.fromkeys(items))
        return AtMost(self.limit)(items, lambda judged: tuple(dict.fromkeys(validate(judged))))


@dataclass(frozen=True, slots=True)
class Map:
    """At most `limit` names of 1 to 128 characters, with values of at most 4,000."""

    limit: int

    def __call__(self, pairs: dict[str, str]) -> dict[str, str]:
        if any("\0" in text for pair in pairs.items() for text in pair):
            raise wrong_shape("must not hold U+0000")
        if len(pairs) > self.limit:
            raise wrong_size(f"must have at most {self.limit} names")
        if any(not 1 <= len(key) <= _MAP_NAME_LENGTH for key in pairs):
            raise wrong_size(f"must have names of 1 to {_MAP_NAME_LENGTH} characters")
        if any(len(value) > _MAP_VALUE_LENGTH for value in pairs.values()):
            raise wrong_size(f"must have values of at most {_MAP_VALUE_LENGTH} characters")
        return pairs


def is_ref(value: str) -> bool:
    """Whether a text is `cluster[/namespace[/app[/pod]]]`; a level between the first and the last that does not apply is `-`."""
    first, *others = value.split("/")
    if len(value) > 512 or len(others) >= _REF_LEVELS or not _REF_SEGMENT.fullmatch(first):  # noqa: PLR2004 - the contract's number
        return False
    if not others:
        return True
    *middle, last = others
    return _REF_SEGMENT.fullmatch(last) is not None and all(level == "-" or _REF_SEGMENT.fullmatch(level) for level in middle)


def parse_rfc3339(text: str) -> datetime:
    """RFC 3339 with capital T and Z and no second 60, in UTC, cut to microseconds; raises ValueError.

    The year is 0001 to 9999, as written and in UTC.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("is not an RFC 3339 time")
    seconds, fraction, zone = match.groups()
    offset = "+00:00" if zone == "Z" else zone
    try:
        return datetime.fromisoformat(f"{seconds}.{(fraction or '')[:6]:0<6}{offset}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not an RFC 3339 time") from None


def format_rfc3339(time: datetime) -> str:
    """UTC with six fraction digits and Z, as on the wire."""
    return time.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _timestamp(value: object) -> datetime:
    if type(value) is int:
        if not _YEAR_1_US <= value <= _YEAR_9999_US:
            raise wrong_shape("must lie in the years 0001 to 9999")
        return EPOCH + timedelta(microseconds=value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, str):
        try:
            return parse_rfc3339(value)
        except ValueError:
            pass
    raise wrong_shape("must be an RFC 3339 time")


@dataclass(frozen=True, slots=True)
class DecimalShape:
    """A decimal of `precision` digits, six of them after the point; exact, or refused."""

    precision: int

    def __call__(self, value: object) -> Decimal:
        if isinstance(value, bytes):
            if not value:
                raise wrong_shape("must be a decimal of one byte or more")
            unscaled = int.from_bytes(value, "big", signed=True)
        elif isinstance(value, (str, int, Decimal)) and not isinstance(value, bool):
            try:
                unscaled = int(Decimal(value).quantize(_LAST_PLACE, context=_EXACT).scaleb(PERCENT_PLACES, context=_EXACT))
            except Inexact:
                raise wrong_shape(f"must have at most {PERCENT_PLACES} digits after the point") from None
            except (InvalidOperation, ValueError):
                raise wrong_shape("must be a decimal number") from None
        else:
            raise wrong_shape("must be a decimal number")
        if abs(unscaled) >= 10**self.precision:
            raise wrong_shape(f"must have at most {self.precision} digits")
        return Decimal(unscaled).scaleb(-PERCENT_PLACES)


def blank(value: str) -> bool:
    """Whether a text that passed its control-character check is empty or white space only (Unicode White_Space)."""
    return not value or value.isspace()


Int32 = Annotated[int, Strict(), Field(ge=-(2**31), lt=2**31)]
NonNegativeInt32 = Annotated[int, Strict(), Field(ge=0, lt=2**31)]
Int64 = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]
String = Annotated[str, Strict()]
Bytes = Annotated[bytes, Strict()]
Boolean = Annotated[bool, Strict()]
Slug = Annotated[str, Strict(), AfterValidator(slug)]
Listed = Annotated[str, Strict(), AfterValidator(_listed)]
Uuid = Annotated[str, Strict(), AfterValidator(uuid)]
Name = Annotated[str, Strict(), AfterValidator(name)]
Line64 = Annotated[str, Strict(), AfterValidator(Line(64))]
Line100 = Annotated[str, Strict(), AfterValidator(Line(100))]
Line200 = Annotated[str, Strict(), AfterValidator(Line(200))]
Line500 = Annotated[str, Strict(), AfterValidator(Line(500))]
Text200 = Annotated[str, Strict(), AfterValidator(Text(200))]
Text2000 = Annotated[str, Strict(), AfterValidator(Text(2000))]
Text10000 = Annotated[str, Strict(), AfterValidator(Text(10_000))]
Severity = Annotated[str, Strict(), AfterValidator(OneOf(("critical", "high", "medium", "low")))]
Timestamp = Annotated[datetime, BeforeValidator(_timestamp)]
Percent = Annotated[Decimal, BeforeValidator(DecimalShape(9))]
BudgetPercent = Annotated[Decimal, BeforeValidator(DecimalShape(18))]
