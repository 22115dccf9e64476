"""Who observes what (RFC 7641), and which notifications are due. Without I/O."""

from collections.abc import Iterator
from dataclasses import dataclass

from rig.dtls.coap import Message

REGISTER, DEREGISTER = 0, 1

_OBSERVATIONS_MAX = 32
_NON_IN_A_ROW = 5
_VALUES = 1 << 24
_FIRST_VALUE = 2  # 0 and 1 are what a client says


@dataclass
class Observation:
    """One entry of the list of observers (RFC 7641 4.1). ``request`` is the registration."""

    client: int
    path: str
    request: Message
    due: bool = False
    _value: int = _FIRST_VALUE - 1
    _non_confirmable: int = 0

    @property
    def token(self) -> bytes:
        """What its notifications are known by."""
        return self.request.token

    def next_value(self) -> int:
        """Return the next Observe value: 24 bits, rising (RFC 7641 4.4)."""
        self._value = (self._value + 1) % _VALUES
        return self._value

    def next_is_confirmable(self) -> bool:
        """Whether an otherwise non-confirmable notification is one, to see if anybody listens (RFC 7641 4.5)."""
        self._non_confirmable = (self._non_confirmable + 1) % (_NON_IN_A_ROW + 1)
        return self._non_confirmable == 0


class Observations:
    """The list of observers, in the order of their registration."""

    def __init__(self) -> None:
        self._all: list[Observation] = []

    def __iter__(self) -> Iterator[Observation]:
        return iter(tuple(self._all))

    def register(self, client: int, path: str, request: Message) -> Observation | None:
        """Add an observation or renew it; None if there are too many."""
        self.remove(client, request.token)
        if len(self._all) >= _OBSERVATIONS_MAX:
            return None
        self._all.append(Observation(client, path, request))
        return self._all[-1]

    def remove(self, client: int, token: bytes) -> None:
        """Take an observation off the list, if it is there."""
        self._all = [each for each in self._all if (each.client, each.token) != (client, token)]

    def forget(self, client: int) -> None:
        """Take everything off the list that *client* observes."""
        self._all = [each for each in self._all if each.client != client]

    def changed(self, path: str) -> None:
        """Note that the resource has a new state."""
        for each in self._all:
            each.due = each.due or each.path == path

    def newest_of(self, client: int) -> Observation:
        """Return the observation that *client* has registered last; there must be one."""
        return [each for each in self._all if each.client == client][-1]
