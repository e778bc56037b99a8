"""A Faust agent that does nothing, with the worker's own settings: the ceiling of the consuming leg. Prints its rate and ends."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import uvloop

from worker.app import build_faust_app
from worker.service import serve
from worker.settings import Settings

if TYPE_CHECKING:
    import faust


def build(scratch: Path, expected: int) -> faust.App:
    settings = Settings.from_environment()
    app = build_faust_app(settings, scratch)
    topic = app.topic("sre.slo.intents.v1", key_serializer="raw", value_serializer="raw")

    async def nothing(stream: Any) -> None:  # noqa: ANN401 - Faust is untyped
        seen, began, cpu = 0, 0.0, 0.0
        async for _ in stream:
            if not seen:
                began, cpu = time.perf_counter(), time.process_time()
            seen += 1
            if seen >= expected:
                per_second = seen / (time.perf_counter() - began)
                print(json.dumps({"per_second": per_second, "cpu_us": (time.process_time() - cpu) / seen * 1e6}), flush=True)
                os._exit(0)

    app.agent(topic, name="nothing", concurrency=1)(nothing)
    return app


if __name__ == "__main__":
    with TemporaryDirectory() as directory:
        uvloop.run(serve(partial(build, Path(directory), int(sys.argv[1]))))
