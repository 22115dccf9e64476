"""The worker process of the coaps client: ``python -m rig.coap.worker``.

One JSON object a line on standard input, replies and events on standard output, bytes as base64, log on standard
error. Ends when standard input closes, however the parent died, and says goodbye to the devices first.

request  {"id", "op", "session", ...}; ops: connect, request, observe, cancel, close
reply    {"id", "result": {...}} or {"id", "error": {"kind", "message"}}
event    {"observation", "notification": {...}} or {"observation", "error": {...}}
"""

import asyncio
import contextlib
import faulthandler
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from rig.clock import now_s
from rig.coap.endpoint import Call, Endpoint, Tuning
from rig.coap.errors import ClientError, SessionDead, error_to_wire
from rig.coap.values import decode_bytes, to_line
from rig.errors import RigError

log = logging.getLogger("rig.coap")

LONGEST_LINE = 1 << 26
FAREWELL_S = 3


class Worker:
    """Dispatches the parent's requests to the sessions; every request is a task of its own."""

    def __init__(self, replies: int) -> None:
        self._replies = replies
        self._sessions: dict[int, Endpoint] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Serve until standard input closes, then close every session."""
        lines = await _standard_input()
        while line := await lines.readline():
            task = asyncio.create_task(self._reply(line))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Whatever hangs in the farewell, the kernel ends this process.
        signal.alarm(FAREWELL_S)
        for endpoint in self._sessions.values():
            await endpoint.close()

    async def _reply(self, line: bytes) -> None:
        # Nothing of the line may appear in what is logged or raised: it can hold a key.
        request: dict[str, Any] = json.loads(line)
        try:
            reply = {"result": await self._perform(request)}
        except RigError as error:
            log.info("%s: %s: %s", request["op"], type(error).__name__, error)
            reply = {"error": error_to_wire(error)}
        except Exception as error:
            log.exception("%s failed", request["op"])
            failure = ClientError(f"the coaps client failed in {request['op']} ({type(error).__name__}): see its log")
            reply = {"error": error_to_wire(failure)}
        self._emit({"id": request["id"], **reply})

    async def _perform(self, request: Mapping[str, Any]) -> dict[str, Any]:
        op, session = request["op"], request["session"]
        if op == "connect":
            return await self._connect(session, request)
        endpoint = self._sessions.get(session)
        if endpoint is None:
            return _perform_closed(op)
        if op == "close":
            await self._sessions.pop(session).close()
            return {}
        if op == "cancel":
            await endpoint.cancel(request["observation"])
            return {}
        if op == "observe":
            return await endpoint.observe(request["observation"], _call(request))
        return await endpoint.request(_call(request))

    async def _connect(self, session: int, request: Mapping[str, Any]) -> dict[str, Any]:
        tuning = Tuning(request["ack_timeout_s"], request["max_retransmit"])
        endpoint = Endpoint(request["host"], request["port"], tuning, self._emit)
        self._sessions[session] = endpoint
        identity = request["identity"].encode("utf-8")
        result = await endpoint.connect(identity, decode_bytes(request["psk"]), request["timeout_s"])
        log.info("session %d with %s: handshake in %.4f s", session, endpoint.peer, result["handshake_s"])
        return result

    def _emit(self, message: dict[str, Any]) -> None:
        line = to_line(message)
        # A parent that is gone also closed our input, which is what ends this process.
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._replies, line) :]


def _perform_closed(op: str) -> dict[str, Any]:
    """Undo nothing of a session that is gone already; refuse everything else."""
    if op in ("cancel", "close"):
        return {}
    raise SessionDead("session is dead: open a new one (it was closed)")


def _call(request: Mapping[str, Any]) -> Call:
    return Call(
        method=request["method"],
        path=request["path"],
        timeout_s=request["timeout_s"],
        payload=decode_bytes(request["payload"]),
        content_format=request["content_format"],
        accept=request["accept"],
        confirmable=request["confirmable"],
    )


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _log_to_standard_error() -> None:
    def stamp(record: logging.LogRecord) -> bool:
        record.rig_s = now_s()
        return True

    handler = logging.StreamHandler()
    handler.addFilter(stamp)
    handler.setFormatter(logging.Formatter("%(rig_s).6f %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def main() -> None:
    """Run the worker on this process's standard streams."""
    # The C library prints; what it prints must not mix with replies.
    replies = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    faulthandler.enable()
    _log_to_standard_error()
    asyncio.run(Worker(replies).serve())


if __name__ == "__main__":
    main()
