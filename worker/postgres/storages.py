"""Every aggregate's storage, by the aggregate's name."""

from collections.abc import Mapping
from typing import Final

from worker.postgres import slo_rows
from worker.postgres.storage import Storage

STORAGES: Final[Mapping[str, Storage]] = {"slo": Storage(slo_rows.lock, slo_rows.save, slo_rows.read_all)}
