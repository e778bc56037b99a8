"""`sre-domain`: one command a job. An error ends a command with one line on stderr and a status other than 0."""

from worker.cli.main import main

__all__ = ["main"]
