"""The rules, pure: no I/O, no clock, no randomness; nothing of the worker outside this package."""
