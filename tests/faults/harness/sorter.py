"""Records of all tenants in, one file for each tenant out: an hour's records do not fit into memory, one tenant's do."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from worker.envelope import Record

NOBODY: Final = ""
_TOGETHER: Final = 500


class Sorter:
    """Keeps the order in which a tenant's records came. `stack` closes the files; what names no tenant of these is NOBODY's."""

    def __init__(self, directory: Path, tenants: Sequence[str], stack: ExitStack) -> None:
        directory.mkdir()
        self.paths = {tenant: directory / (tenant or "nobody") for tenant in (*tenants, NOBODY)}
        self._files = {tenant: stack.enter_context(path.open("wb")) for tenant, path in self.paths.items()}
        self._gathered: dict[str, list[Record]] = {tenant: [] for tenant in self.paths}

    def tenant_of(self, tenant: str | None) -> str:
        return tenant if tenant is not None and tenant in self.paths else NOBODY

    def add(self, tenant: str, record: Record) -> None:
        gathered = self._gathered[tenant]
        gathered.append(record)
        if len(gathered) >= _TOGETHER:
            self._write(tenant)

    def end(self) -> None:
        for tenant, file in self._files.items():
            self._write(tenant)
            file.close()

    def _write(self, tenant: str) -> None:
        pickle.dump(self._gathered[tenant], self._files[tenant], pickle.HIGHEST_PROTOCOL)
        self._gathered[tenant].clear()


def read_sorted(path: Path) -> list[Record]:
    found: list[Record] = []
    with path.open("rb") as file:
        while True:
            try:
                found += pickle.load(file)  # noqa: S301 - written above
            except EOFError:
                return found
