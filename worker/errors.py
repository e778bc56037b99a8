"""Errors that end a command: each message is one line that tells the operator what happened."""

from pydantic import ValidationError


class WorkerError(Exception):
    """Going on is unsafe or pointless; the command prints the message and exits non-zero."""


class SettingsError(WorkerError):
    """An SRE_* variable is missing or wrong."""

    def __init__(self, error: ValidationError) -> None:
        faults = (f"SRE_{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors(include_input=False))
        super().__init__("; ".join(faults))
