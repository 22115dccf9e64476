"""A session that is open while a device is treated badly: it tells whether the device came through unharmed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rig.coap.probe.prober import Prober
from rig.dtls.client import Refused, Silence


@contextmanager
def witness(probe: Prober) -> Iterator[Callable[[], str]]:
    """Hold a session and give a function that returns what harm was done: nothing where its request is answered.

    A device that starts again forgets its sessions, however soon it serves new ones.
    """
    with probe.session() as session:

        def harm() -> str:
            try:
                code = session.get(probe.life).code_text
            except (Silence, Refused) as error:
                return f"a session that was open is gone: {error}"
            return "" if code == "2.05" else f"a session that was open is answered {code}"

        yield harm
