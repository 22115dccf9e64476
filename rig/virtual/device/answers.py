"""What a request comes to: a response, or a refusal that becomes one."""

from dataclasses import dataclass

from rig.dtls.coap import Options
from rig.errors import RigError

CONTENT, CHANGED, VALID, CONTINUE = 0x45, 0x44, 0x43, 0x5F
"""2.05, 2.04, 2.03, 2.31"""


@dataclass(frozen=True)
class Response:
    """A response before it becomes a message; ``code`` is class and detail in one byte."""

    code: int
    options: Options = ()
    payload: bytes = b""


class Refused(RigError):
    """The request gets an error response."""

    def __init__(self, code: str, why: str, options: Options = ()) -> None:
        """*code* as the RFC writes it, "4.04"; *why* becomes the diagnostic payload (RFC 7252 5.5.2)."""
        super().__init__(f"{code} {why}")
        kind, detail = code.split(".")
        self.response = Response(int(kind) << 5 | int(detail), options, why.encode())


class Crash(RigError):
    """The device restarts: its sessions are lost, and for a while it answers nobody."""
