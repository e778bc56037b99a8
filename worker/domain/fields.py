"""The field types of the contract, for pydantic: a wrong shape is SCHEMA_INVALID, a wrong size LIMIT_EXCEEDED.

Values come as Avro gives them without logical types (long, bytes) or as JSON does (RFC 3339, decimal strings).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Annotated

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
Line200 = Annotated[str, Strict(), AfterValidator(Line(200))]
Text2000 = Annotated[str, Strict(), AfterValidator(Text(2000))]
Text10000 = Annotated[str, Strict(), AfterValidator(Text(10_000))]
Timestamp = Annotated[datetime, BeforeValidator(_timestamp)]
Percent = Annotated[Decimal, BeforeValidator(DecimalShape(9))]
BudgetPercent = Annotated[Decimal, BeforeValidator(DecimalShape(18))]
