"""One device to probe: wires and raw clients with its credentials, sessions that are closed, proof of life."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from rig.coap.probe.diagnosis import diagnose
from rig.coap.probe.session import ProbeSession
from rig.coap.probe.wire import GroupWire, Transcript, Wire, run_together
from rig.dtls.client import Client, Timers
from rig.dtls.contents import ServerHelloDone
from rig.dtls.conversation import Script, Wait
from rig.errors import DeviceError
from rig.formats.udp_packet import Endpoint

LIFE_S = 8.0
"""How long a device may take to prove that it is alive: a handshake with its retransmissions."""

TURN_S = 0.02


class NoProofOfLife(DeviceError):
    """The device does not answer an ordinary request, so its silence says nothing."""


def _nothing(_: str) -> None:
    """Take a note that nobody keeps."""


class Prober:
    """Probes one device. A context manager: leaving it closes what is still open, at the device too.

    *endpoint* gives where the device is reached, through its router; *life* is the path whose GET proves that it is
    alive; *on_repeat* is told of every step that was taken again. *host* gives where the device itself is, behind any
    router: groups are asked and ports tried there.
    """

    def __init__(
        self,
        endpoint: Callable[[], Endpoint],
        identity: bytes,
        psk: bytes,
        *,
        life: str = "/.well-known/core",
        on_repeat: Callable[[str], None] = _nothing,
        host: Callable[[], str] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._host = host or (lambda: endpoint()[0])
        self.identity = identity
        self.psk = psk
        self.life = life
        self.transcripts: list[Transcript] = []
        """What passed through every wire so far."""
        self.sessions: list[ProbeSession] = []
        """Every session so far, open or closed."""
        self._on_repeat = on_repeat
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def endpoint(self) -> Endpoint:
        """Where the device is reached."""
        return self._endpoint()

    def client(self, *, identity: bytes | None = None, psk: bytes | None = None, **settings: Any) -> Client:
        """Return a raw client with the device's credentials or others; *settings* are those of `Connection`."""
        return Client(self.identity if identity is None else identity, self.psk if psk is None else psk, **settings)

    def wire(self, *, to: Endpoint | None = None, host: str = "", port: int = 0) -> Wire:
        """Open a UDP port towards the device, or to another endpoint; it is closed with the prober."""
        wire = self._stack.enter_context(Wire(to or self.endpoint, host=host, port=port))
        self.transcripts.append(wire.transcript)
        return wire

    def group_wire(self, group: Endpoint) -> GroupWire:
        """Open a UDP port from which a multicast group is asked, and on which the device's answers are heard."""
        wire = self._stack.enter_context(GroupWire(group, self._host()))
        self.transcripts.append(wire.transcript)
        return wire

    def run(self, script: Script[Any], client: Client | None = None, wire: Wire | None = None) -> Any:
        """Run a script on a wire, by default a new one; *client* is the one whose keys open what passes."""
        wire = wire or self.wire()
        if client is not None and client not in wire.transcript.clients:
            wire.transcript.clients.append(client)
        return wire.run(script)

    def together(self, parts: Sequence[tuple[Client, Script[Any]]], *, at_once: int | None = None) -> list[Any]:
        """Run scripts at once, each on a wire of its own; return what each returned.

        *at_once*: no more than so many at a time, for a device that can hold no more handshakes.
        """
        turns, wires = _Turns(at_once or len(parts)), [self.wire() for _ in parts]
        for wire, (client, _) in zip(wires, parts, strict=True):
            wire.transcript.clients.append(client)
        return run_together([(wire, turns.take(script)) for wire, (_, script) in zip(wires, parts, strict=True)])

    def connect(self, client: Client | None = None, wire: Wire | None = None) -> ProbeSession:
        """Shake hands; the session is closed with the prober if it is not before.

        Raises `Silence`, `Refused` or `NotVerified` of :mod:`rig.dtls.client`.
        """
        client, wire = client or self.client(), wire or self.wire()
        hellos = len(client.sent)
        self.run(client.handshake(), client, wire)
        if len(client.sent) - hellos > 3:
            self._on_repeat(f"handshake: {len(client.sent) - hellos} flights were sent where 3 are needed")
        session = ProbeSession(wire, client, self._on_repeat)
        self.sessions.append(session)
        self._stack.callback(_closed, session)
        return session

    @contextmanager
    def session(self, client: Client | None = None, wire: Wire | None = None) -> Iterator[ProbeSession]:
        """Shake hands, give the session and close it."""
        session = self.connect(client, wire)
        try:
            yield session
        finally:
            _closed(session)

    def half_open(self, client: Client | None = None, wire: Wire | None = None) -> tuple[Client, Wire]:
        """Say hello, with the cookie, and stop when the server's flight is there."""
        client, wire = client or self.client(), wire or self.wire()
        answer = self.run(client.hello(), client, wire)
        assert isinstance(answer, ServerHelloDone), "a client that resumes nothing was given a resumed session"
        return client, wire

    def abandon(self, client: Client, wire: Wire) -> None:
        """End a handshake that is under way, so that the device need not hold it: a fatal alert in clear."""
        self.run(client.send(client.alert(2, 80)), client, wire)

    def prove_alive(self) -> None:
        """Make a handshake and a request with the right credentials; raises `NoProofOfLife` without a 2.05."""
        client = self.client()
        client.timers = Timers(give_up_s=LIFE_S)
        before = len(self.transcripts)
        try:
            with self.session(client) as session:
                response = session.get(self.life)
        except DeviceError as error:
            raise NoProofOfLife(f"no proof of life: {error}") from error
        finally:
            for transcript in self.transcripts[before:]:
                transcript.proof_of_life = True
        if response.code_text != "2.05":
            raise NoProofOfLife(f"no proof of life: GET {self.life} was answered {response.code_text}")

    def died(self) -> str:
        """Return why the device is not alive, or nothing where it proves that it is."""
        try:
            self.prove_alive()
        except NoProofOfLife as error:
            return str(error)
        return ""

    def diagnose(self) -> str:
        """Return what a failure probably comes from, as far as it was seen here, or nothing."""
        return diagnose(self.transcripts, [one.said for one in self.sessions], (self.identity, self.psk))

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Prove before and after the block that the device answers: what it does not say in between means something."""
        self.prove_alive()
        yield
        self.prove_alive()


def _closed(session: ProbeSession) -> None:
    with suppress(DeviceError):
        if not session.ended and not session.wire.closed:
            session.close()


class _Turns:
    """Lets so many scripts run at once; the others wait for their turn."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once

    def take(self, script: Script[Any]) -> Script[Any]:
        while not self._free:
            yield Wait(TURN_S)
        self._free -= 1
        try:
            return (yield from script)
        finally:
            self._free += 1
