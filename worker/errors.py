"""Errors that end a command: each message is one line that tells the operator what happened."""


class WorkerError(Exception):
    """Going on is unsafe or pointless; the command prints the message and exits non-zero."""


class SettingsError(WorkerError):
    """SRE_* variables, or their files, are missing or wrong; the message names each and holds no value.

    `names` are the fields that are wrong by themselves.
    """

    def __init__(self, message: str, names: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.names = names
