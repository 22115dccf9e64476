"""An observation of one resource (RFC 7641), as tests use it."""

import queue
from types import TracebackType
from typing import Self

from rig.coap.errors import NotificationTimeout, error_from_wire
from rig.coap.process import Events, WorkerProcess
from rig.coap.values import Notification, Response, notification_from_wire
from rig.errors import BenchError, RigError

DEFAULT_TIMEOUT_S = 10.0


class Observation:
    """Notifications of one resource, in the order of arrival, less those that RFC 7641 clause 3.4 calls old.

    ``first`` is the response to the registration, ``first_observe`` its sequence number. Leaving the context manager
    deregisters at the device.
    """

    def __init__(
        self,
        worker: WorkerProcess,
        events: Events,
        session: int,
        number: int,
        path: str,
        first: Response,
        first_observe: int,
    ) -> None:
        self._worker = worker
        self._session = session
        self._number = number
        self._events = events
        self._ended: RigError | None = None
        self._cancelled = False
        self.path = path
        self.first = first
        self.first_observe = first_observe

    def __repr__(self) -> str:
        return f"<Observation of {self.path}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.cancel()
        except RigError as failure:
            if error is None:
                raise
            error.add_note(f"and the observation of {self.path} could not be cancelled: {failure}")

    def next(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> Notification:
        """Return the next notification.

        Raises NotificationTimeout (the session stays usable), ObservationEnded when the device ended it, or what
        ended the session.
        """
        if self._ended is not None:
            raise self._ended
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            raise NotificationTimeout(f"no notification of {self.path} within {timeout_s:g} s") from None
        if isinstance(event, BenchError):
            self._ended = event
        elif "error" in event:
            self._ended = error_from_wire(event["error"])
        else:
            return notification_from_wire(event["notification"])
        raise self._ended

    def cancel(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Deregister at the device: GET with Observe 1 and the same token (RFC 7641 clause 3.6).

        Idempotent, and nothing if the session is dead or the device ended the observation. Notifications that had
        arrived before can still be read. Raises RequestTimeout if the device does not answer; the session is then dead.
        """
        if self._cancelled or not self._worker.alive:
            return
        self._cancelled = True
        try:
            self._worker.call(
                "cancel",
                f"cancel of observe {self.path}",
                timeout_s,
                session=self._session,
                observation=self._number,
            )
        finally:
            self._worker.unsubscribe(self._number)
