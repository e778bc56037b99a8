"""The worker that takes the intents of SLOs alone."""

from worker import app
from worker.cli import main

app.AGGREGATES = {"slo": app.AGGREGATES["slo"]}
main()
