"""The operations of the contract and no others, in Python and on the command line, and nothing in them that searches or orders."""

import inspect

import pytest
from typer.main import get_command

from tests.support.operations import SERVICES
from worker.cli.query import app
from worker.postgres import queries

OPERATIONS = [(service, name) for service, names in SERVICES.items() for name in names]
ARGUMENTS = {
    "tenant",
    "incident_id",
    "alert_id",
    "runbook_id",
    "slo_id",
    "environment_id",
    "cluster_id",
    "page_size",
    "after",
    "min_version",
    "wait_seconds",
}
OPTIONS = {"id", "environment", "tenant", "incident", "cluster", "page_size", "after", "min_version", "wait_seconds", "help"}


def test_there_are_the_five_services() -> None:
    assert {name for name in queries.__all__ if name.endswith("Service")} == {service.__name__ for service in SERVICES}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_its_operations_and_no_more(service: type[object]) -> None:
    public = {name for name, _ in inspect.getmembers(service, callable) if not name.startswith("_")}
    assert public == set(SERVICES[service])


@pytest.mark.parametrize(("service", "name"), OPERATIONS)
def test_an_operation_takes_a_tenant_first_and_nothing_to_search_by(service: type[object], name: str) -> None:
    parameters = list(inspect.signature(getattr(service, name)).parameters)[1:]
    assert parameters[0] == "tenant"
    assert set(parameters) <= ARGUMENTS
    assert {"min_version", "wait_seconds"} <= set(parameters) or name.startswith("list_")


def test_the_commands_are_the_operations() -> None:
    command = get_command(app)
    commands = command.commands  # type: ignore[attr-defined]
    assert sorted(commands) == sorted(name.replace("_", "-") for _, name in OPERATIONS)
    for name, operation in commands.items():
        options = {str(parameter.name) for parameter in operation.params}
        assert {"id" if option.endswith("_id") else option for option in options} <= OPTIONS, name
        assert "tenant" in options
