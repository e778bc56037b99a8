"""What an alert's source calls the same alert: for Prometheus a hash of its labels, for others whatever they chose."""

import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, Strict

from worker.domain.fields import wrong_shape, wrong_size

_OFFSET_BASIS: Final = 0xCBF29CE484222325
_PRIME: Final = 0x100000001B3
_MASK: Final = 2**64 - 1
_SEPARATOR: Final = b"\xff"  # a byte that UTF-8 never has
_SHAPE: Final = re.compile(r"[!-~]*| *")
_LENGTH: Final = 128


def fingerprint_of(labels: Mapping[str, str]) -> str:
    """Prometheus' fingerprint of a label set, as Alertmanager prints it: FNV-1a-64 over name, FF, value, FF by ascending name.

    Source: prometheus/common, `model.LabelSet.Fingerprint`.
    """
    digest = _OFFSET_BASIS
    for pair in sorted(labels.items()):  # by code point, which is the order of UTF-8
        for text in pair:
            for byte in text.encode() + _SEPARATOR:
                digest = (digest ^ byte) * _PRIME & _MASK
    return f"{digest:016x}"


def _fingerprint(value: str) -> str:
    # Spaces only are blank, which has a code of its own.
    if not _SHAPE.fullmatch(value):
        raise wrong_shape("must be printable ASCII without spaces")
    if len(value) > _LENGTH:
        raise wrong_size(f"must have at most {_LENGTH} characters")
    return value


Fingerprint = Annotated[str, Strict(), AfterValidator(_fingerprint)]
