"""The worker that gives a silent PostgreSQL two seconds."""

from worker import recovery
from worker.cli import main

recovery.ATTEMPT_SECONDS = 2.0  # type: ignore[misc]
main()
