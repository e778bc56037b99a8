"""Every aggregate's storage, by the aggregate's name."""

from collections.abc import Mapping
from typing import Final

from worker.postgres import incident_rows, runbook_rows, slo_rows
from worker.postgres.alert_rows import ALERT_STORAGE
from worker.postgres.fleetstate_rows import FLEETSTATE_STORAGE
from worker.postgres.healthcheck_rows import HEALTHCHECK_STORAGE
from worker.postgres.storage import Storage

STORAGES: Final[Mapping[str, Storage]] = {
    "alert": ALERT_STORAGE,
    "healthcheck": HEALTHCHECK_STORAGE,
    "fleetstate": FLEETSTATE_STORAGE,
    "incident": Storage(incident_rows.lock, incident_rows.save, incident_rows.read_all),
    "runbook": Storage(runbook_rows.lock, runbook_rows.save, runbook_rows.read_all),
    "slo": Storage(slo_rows.lock, slo_rows.save, slo_rows.read_all),
}
