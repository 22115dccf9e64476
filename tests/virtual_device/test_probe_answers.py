"""What the raw probe makes of a device's answers, against the device as a process: hellos, and harm that was done."""

from collections.abc import Callable, Iterator

import pytest

from rig.coap.probe import Prober, answers, first_answer, request, witness
from rig.coap.probe.hello import server_hello_came
from rig.dtls.client import Client, Timers
from rig.dtls.coap import PUT
from rig.dtls.records import DTLS_1_2

IDENTITY, PSK = "sensor-1", b"0123456789abcdef"
CCM_8, TLS_1_3_SUITE = 0xC0A8, 0x1301


@pytest.fixture
def probe_of(device: Callable[..., str]) -> Iterator[Callable[..., Prober]]:
    """Start a device with these switches, and probe it."""
    probes: list[Prober] = []

    def start(**switches: object) -> Prober:
        address = device(**switches)
        probes.append(Prober(lambda: (address, 5684), IDENTITY.encode(), PSK, life="/light"))
        return probes[-1].__enter__()

    yield start
    for probe in probes:
        probe.__exit__(None, None, None)


def quick(probe: Prober, **settings: object) -> Client:
    client = probe.client(**settings)
    client.timers = Timers(first_s=0.2, give_up_s=0.5)
    return client


def test_hellos_get_what_the_server_says_last(probe_of: Callable[..., Prober]) -> None:
    probe = probe_of()
    suites = [(CCM_8,), (TLS_1_3_SUITE,), (CCM_8,), (TLS_1_3_SUITE, CCM_8)]
    found = answers(probe, [(quick(probe, offered_suites=each), Client.client_hello) for each in suites])
    chosen, refused = "ServerHello of 0xfefd with TLS_PSK_WITH_AES_128_CCM_8", "alert handshake_failure (2, 40)"
    assert [str(each) for each in found] == [chosen, refused, chosen, chosen]


def test_the_first_answer_has_its_record_number(probe_of: Callable[..., Prober]) -> None:
    probe = probe_of()
    client, wire = quick(probe), probe.wire()
    client.sequences[0] = 9
    answer = probe.run(first_answer(client), client, wire)
    assert (str(answer), answer.sequence) == ("HelloVerifyRequest with a cookie of 20 bytes", 9)
    assert answer.server_hello is None
    assert not server_hello_came(wire)


def test_silence_is_an_answer(probe_of: Callable[..., Prober]) -> None:
    probe = probe_of()
    client = quick(probe)
    client.version = 0x0303
    assert str(probe.run(first_answer(client), client)) == "silence for 0.5 s"


def test_a_server_hello_is_seen_whatever_its_record_says(probe_of: Callable[..., Prober]) -> None:
    probe = probe_of(no_cookie=True)
    client, wire = quick(probe), probe.wire()
    answer = probe.run(first_answer(client), client, wire)
    assert answer.server_hello is not None
    assert answer.server_hello.version == DTLS_1_2
    assert server_hello_came(wire)


def test_a_witness_notices_a_restart(probe_of: Callable[..., Prober]) -> None:
    probe = probe_of(panics_above_bytes=100)
    with witness(probe) as harm:
        with probe.session() as other:
            other.put("/light", b"on")
            assert harm() == ""
            other.tell(request(PUT, "/light", payload=bytes(101)))
        assert harm().startswith("a session that was open is gone")
    assert probe.died() == ""
