"""aiocoap's DTLS connection, made safe. Loaded in the worker process only.

Written against one version of aiocoap, because it reaches below the public interface. It cures:

- a send that fails at once (route gone) freed the C session twice and aborted the process (aiocoap issue 425);
- a close_notify at warning level, which is how devices send it, was ignored, and the next request then shook hands
  anew without a word;
- closing twice, or after the event loop, was an error from a destructor.
"""

import asyncio
import errno
import importlib.metadata
from typing import Any

import aiocoap.error
from aiocoap.transports import tinydtls

from rig.clock import now_s
from rig.coap.errors import (
    AlertReceived,
    ClientError,
    ConnectionRefused,
    HostUnreachable,
    LocalNetworkError,
    ProtocolError,
    RequestTimeout,
    ResetReceived,
)
from rig.dtls.alerts import alert_name
from rig.errors import RigError

TESTED_VERSION = "0.4.17"


def require_tested_version() -> None:
    """Refuse an aiocoap other than the one that this module was proven with."""
    version = importlib.metadata.version("aiocoap")
    if version != TESTED_VERSION:
        raise ClientError(
            f"the coaps client is written against aiocoap {TESTED_VERSION}, {version} is installed: "
            f"pip install aiocoap=={TESTED_VERSION}"
        )


class SafeConnection(tinydtls.DTLSClientConnection):  # type: ignore[misc]  # aiocoap carries no types
    """One DTLS session with one device over one UDP socket.

    ``handshake`` is done when the handshake is complete or has failed; ``failure`` is what ended the session, if
    anything did. Stamps are on the rig's clock: ``first_sent_s`` the first datagram (ClientHello), ``connected_s``
    the end of the handshake, ``read_s`` by message ID when a CoAP message was read (the latest of each ID).
    """

    # The base class creates these only on the way through its start; shutdown may come before.
    _transport: Any = None
    _retransmission_task: Any = None
    _down = False

    def __init__(self, host: str, port: int, identity: bytes, psk: bytes, interface: Any) -> None:
        self.handshake = asyncio.Event()
        self.failure: Exception | None = None
        self.first_sent_s: float | None = None
        self.connected_s: float | None = None
        self.read_s: dict[int, float] = {}
        super().__init__(host, port, identity, psk, interface)
        self._startup.add_done_callback(lambda _: self.handshake.set())

    @property
    def local_port(self) -> int:
        """The UDP port of this end."""
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def send(self, message: bytes) -> None:
        # tinydtls answers a write without a session by a new handshake, so nothing may reach it after the end.
        if self.failure is None and not self._down:
            super().send(message)

    def shutdown(self) -> None:
        if self._down:
            return
        self._down = True
        if self.coaptransport.loop.is_closed():
            return
        if self._retransmission_task is not None:
            super().shutdown()
            return
        self._remove_from_pool()
        self._startup.cancel()
        if self._transport is not None:
            self._transport.close()

    def _inject_error(self, e: Exception) -> None:
        # Called from inside C code that still uses the session: end it later, from the loop.
        if self.failure is None and not self._down:
            self.failure = e
            self.coaptransport.loop.call_soon(self._end)

    def _end(self) -> None:
        self.handshake.set()
        self.coaptransport.ctx.dispatch_error(self.failure, self)
        self.shutdown()

    def _event(self, level: int, code: int) -> None:
        if (level, code) == (tinydtls.LEVEL_NOALERT, tinydtls.DTLS_EVENT_CONNECTED):
            self._note_connected()
        elif level != tinydtls.LEVEL_NOALERT and code == tinydtls.CODE_CLOSE_NOTIFY:
            self._inject_error(tinydtls.CloseNotifyReceived())
        else:
            super()._event(level, code)

    def _note_connected(self) -> None:
        if self.connected_s is None:
            self.connected_s = now_s()
            self._connecting.set_result(True)
            self.handshake.set()

    def _read(self, sender: Any, data: bytes) -> int:
        self.read_s[int.from_bytes(data[2:4], "big")] = now_s()
        length: int = super()._read(sender, data)
        return length

    def _write(self, recipient: Any, data: bytes) -> int:
        if self.first_sent_s is None:
            self.first_sent_s = now_s()
        length: int = super()._write(recipient, data)
        return length


def explain(error: BaseException, peer: str, doing: str) -> RigError:
    """Return the rig's error for what aiocoap, DTLSSocket or the socket raised while *doing* something with *peer*."""
    if isinstance(error, aiocoap.error.NetworkError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, tinydtls.FatalDTLSError):
        return _alert(int(error.args[0]), peer, doing)
    if isinstance(error, tinydtls.CloseNotifyReceived):
        return _alert(tinydtls.CODE_CLOSE_NOTIFY, peer, doing)
    if isinstance(error, OSError):
        return _explain_os_error(error, peer, doing)
    if isinstance(error, aiocoap.error.ConRetransmitsExceeded):
        return RequestTimeout(f"{peer} acknowledged none of the transmissions of {doing}: the session is given up")
    if isinstance(error, aiocoap.error.MessageError):
        return ResetReceived(f"{peer} answered {doing} with RST: it knows no such exchange or refuses it")
    if isinstance(error, aiocoap.error.Error):
        return ProtocolError(f"{peer} broke the protocol during {doing}: {type(error).__name__} {error}".rstrip())
    return ClientError(f"the coaps client failed during {doing} with {peer}: {type(error).__name__}; see its log")


def _alert(number: int, peer: str, doing: str) -> AlertReceived:
    return AlertReceived(f"{peer} ended the session with alert {number} ({alert_name(number)}) during {doing}", number)


def _explain_os_error(error: OSError, peer: str, doing: str) -> RigError:
    if error.errno == errno.ECONNREFUSED:
        return ConnectionRefused(
            f"{peer} refused {doing}: ICMP port unreachable, nothing listens there (server not started, or asleep)"
        )
    if error.errno in (errno.EHOSTUNREACH, errno.EHOSTDOWN):
        return HostUnreachable(f"{peer} cannot be reached for {doing}: no such host on its network (off or asleep?)")
    return LocalNetworkError(f"this host cannot send to {peer} for {doing} ({error}): check its routes and interfaces")
