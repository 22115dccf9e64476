"""The coaps client that tests hold: it owns the worker process and opens sessions."""

import itertools
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.coap.process import WorkerProcess
from rig.coap.session import Session, SessionSettings, check_credentials
from rig.coap.values import Secret


class CoapClient:
    """Opens coaps sessions. The worker process starts with the first connection and again after a crash.

    ``log_path`` receives the worker's log (appended). As a context manager it closes all sessions on leaving.
    """

    def __init__(self, log_path: Path | None = None) -> None:
        self._log_path = log_path
        self._worker: WorkerProcess | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, or None if none was started."""
        return self._worker.pid if self._worker else None

    def session(
        self,
        host: str,
        port: int,
        *,
        identity: str,
        psk: bytes,
        connect_timeout_s: float = 10.0,
        ack_timeout_s: float | None = None,
        max_retransmit: int | None = None,
    ) -> Session:
        """Return a session with one device, not yet connected: enter it, or call ``connect()``.

        ``ack_timeout_s`` and ``max_retransmit`` replace ACK_TIMEOUT and MAX_RETRANSMIT of RFC 7252 clause 4.8.
        Raises ClientError for a key or an identity that the client library cannot hold.
        """
        __tracebackhide__ = True
        check_credentials(identity, Secret(psk))
        settings = SessionSettings(host, port, identity, Secret(psk), connect_timeout_s, ack_timeout_s, max_retransmit)
        return Session(settings, self._running_worker, self._numbers)

    def close(self) -> None:
        """Close every session and end the worker. Idempotent."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _running_worker(self) -> WorkerProcess:
        if self._worker is not None and not self._worker.alive:
            self.close()
        if self._worker is None:
            self._worker = WorkerProcess(self._log_path)
        return self._worker
