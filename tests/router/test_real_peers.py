"""Real DTLS stacks through the relay, recorded, dissected and decrypted: OpenSSL, libcoap, tinydtls."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from rig.dtls import coap
from rig.dtls.dissector import dissect_capture
from rig.dtls.session import Session
from rig.formats.udp_packet import Endpoint
from rig.router import Capture, Impairment, RelayRouter

IDENTITY, PSK = "sensor-1", "0123456789abcdef"
PSKS = {IDENTITY.encode(): PSK.encode()}
CCM_8 = "TLS_PSK_WITH_AES_128_CCM_8"
PATIENCE_S = 30.0

Eventually = Callable[[Callable[[], bool], str], None]
Running = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def libcoap_server(address: str) -> list[str]:
    return ["coap-server-openssl", "-A", address, "-k", PSK, "-h", "hint"]


def openssl_server(address: str, suite: str, *options: str) -> list[str]:
    suites = ["-cipher", f"{suite}:@SECLEVEL=0", "-nocert", "-quiet", *options]
    return ["openssl", "s_server", "-dtls1_2", "-accept", f"{address}:5684", "-psk", PSK.encode().hex(), *suites]


@pytest.fixture
def libcoap(own_address: str, running: Running) -> Iterator[Endpoint]:
    """libcoap's example server."""
    with running(libcoap_server(own_address), (own_address, 5684)):
        yield own_address, 5684


TINYDTLS_CLIENT = """
import asyncio, sys, aiocoap
async def main(uri, identity, psk, *paths):
    context = await aiocoap.Context.create_client_context(transports=["tinydtls"])
    credentials = {"dtls": {"psk": psk.encode(), "client-identity": identity.encode()}}
    context.client_credentials.load_from_dict({uri + "/*": credentials})
    for path in paths:
        answer = await asyncio.wait_for(context.request(aiocoap.Message(code=aiocoap.GET, uri=uri + path)).response, 5)
        print(answer.code.dotted, answer.payload.decode())
    await context.shutdown()
asyncio.run(main(*sys.argv[1:]))
"""


def tinydtls_get(front: Endpoint, psk: str, *paths: str) -> subprocess.CompletedProcess[str]:
    uri = f"coaps://{front[0]}:{front[1]}"
    command = [sys.executable, "-c", TINYDTLS_CLIENT, uri, IDENTITY, psk, *paths]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def openssl_client_command(front: Endpoint, suite: str, psk: str) -> list[str]:
    keys = ["-psk_identity", IDENTITY, "-psk", psk.encode().hex(), "-cipher", f"{suite}:@SECLEVEL=0"]
    return ["openssl", "s_client", "-dtls1_2", "-connect", f"{front[0]}:{front[1]}", *keys]


def openssl_client(front: Endpoint, suite: str, text: str = "") -> None:
    command = openssl_client_command(front, suite, PSK)
    subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE_S, check=True)


def messages(session: Session) -> list[tuple[bool, coap.Message]]:
    return [(record.from_client, coap.decode(record.plaintext or b"")) for record in session.application_data]


def only(capture: Capture) -> Session:
    assert capture.complete
    (session,) = dissect_capture(capture.packets(), PSKS)
    return session


@needs("coap-server-openssl")
def test_aiocoap_against_libcoap_is_decrypted(router: RelayRouter, libcoap: Endpoint, tmp_path: Path) -> None:
    front = router.endpoint_for(*libcoap)
    with router.capture(tmp_path / "get.pcapng") as capture:
        said = tinydtls_get(front, PSK, "/time", "/nothing")
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["2.05", "4.04"], said.stderr
    session = only(capture)
    assert (session.established, session.cookie_exchanged, session.suite_name) == (True, True, CCM_8)
    assert (session.identity, session.identity_hint) == (IDENTITY.encode(), b"hint")
    assert session.server == libcoap
    assert session.undecryptable() == {}
    exchange = messages(session)
    assert [(from_client, m.code_text) for from_client, m in exchange] == [
        (True, "0.01"),
        (False, "2.05"),
        (True, "0.01"),
        (False, "4.04"),
    ]
    asked, answered = exchange[0][1], exchange[1][1]
    assert (asked.path, answered.token) == ("/time", asked.token)
    assert answered.payload.decode() in said.stdout
    assert (session.alerts[-1].alert.name, session.alerts[-1].epoch) == ("close_notify", 1)
    assert session.client_finished_s is not None
    assert session.server_finished_s is not None
    assert session.start_s < session.client_finished_s < session.server_finished_s
    # Nonces never repeat, and the overhead is the suite's: 13 header, 8 nonce, 8 tag.
    sent = [(r.from_client, r.explicit_nonce) for r in session.records if r.epoch]
    assert len(set(sent)) == len(sent)
    assert {r.length - len(r.plaintext or b"") for r in session.records if r.epoch} == {29}


@needs("coap-server-openssl")
def test_a_wrong_key_opens_nothing(
    router: RelayRouter, libcoap: Endpoint, eventually: Eventually, tmp_path: Path
) -> None:
    def sealed_by_client(capture: Capture) -> int:
        sessions = dissect_capture(capture.packets(), PSKS)
        return sum(session.undecryptable(from_client=True).get(1, 0) for session in sessions)

    command = openssl_client_command(router.endpoint_for(*libcoap), "PSK-AES128-CCM8", "another key 1234")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # libcoap on OpenSSL meets the wrong key with silence, so the client would repeat its Finished for minutes.
    with router.capture(tmp_path / "wrong.pcapng") as capture, subprocess.Popen(command, **pipes) as client:
        try:
            eventually(lambda: sealed_by_client(capture) >= 2, "the client's Finished and its repetition")
        finally:
            client.kill()
    session = only(capture)
    assert (session.established, session.client_finished_s, session.identity) == (False, None, IDENTITY.encode())
    assert not [record for record in session.records if record.epoch and not record.from_client]


@needs("coap-server-openssl")
def test_a_handshake_survives_loss_and_shows_its_retransmissions(
    router: RelayRouter, libcoap: Endpoint, tmp_path: Path
) -> None:
    loss = Impairment(loss=30, duplicate=20, seed=3)
    with router.impaired(loss, loss), router.capture(tmp_path / "lossy.pcapng") as capture:
        openssl_client(router.endpoint_for(*libcoap), "PSK-AES128-CCM8")
    session = only(capture)
    assert session.established
    assert any(flight.retransmission for flight in session.flights)


@needs("openssl")
@pytest.mark.parametrize(
    ("suite", "name", "option"),
    [
        ("PSK-AES128-CCM8", CCM_8, []),
        ("PSK-AES256-CCM8", "TLS_PSK_WITH_AES_256_CCM_8", []),
        ("PSK-AES128-CCM", "TLS_PSK_WITH_AES_128_CCM", []),
        ("PSK-AES256-CCM", "TLS_PSK_WITH_AES_256_CCM", []),
        ("PSK-AES128-GCM-SHA256", "TLS_PSK_WITH_AES_128_GCM_SHA256", []),
        ("PSK-AES256-GCM-SHA384", "TLS_PSK_WITH_AES_256_GCM_SHA384", []),
        ("PSK-CHACHA20-POLY1305", "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256", []),
        ("PSK-AES128-CBC-SHA256", "TLS_PSK_WITH_AES_128_CBC_SHA256", []),
        ("PSK-AES128-CBC-SHA256", "TLS_PSK_WITH_AES_128_CBC_SHA256", ["-no_etm"]),
        ("PSK-AES256-CBC-SHA384", "TLS_PSK_WITH_AES_256_CBC_SHA384", []),
        ("PSK-AES128-CBC-SHA", "TLS_PSK_WITH_AES_128_CBC_SHA", ["-no_etm"]),
        ("PSK-AES256-CBC-SHA", "TLS_PSK_WITH_AES_256_CBC_SHA", []),
        ("PSK-NULL-SHA256", "TLS_PSK_WITH_NULL_SHA256", []),
    ],
)
def test_openssl_with_every_suite(
    router: RelayRouter, own_address: str, running: Running, tmp_path: Path, suite: str, name: str, option: list[str]
) -> None:
    server = openssl_server(own_address, suite, "-listen", *option)
    with running(server, (own_address, 5684)), router.capture(tmp_path / "suite.pcapng") as capture:
        openssl_client(router.endpoint_for(own_address, 5684), suite, text="canary\n")
    session = only(capture)
    assert (session.established, session.suite_name, session.undecryptable()) == (True, name, {})
    assert session.extended_master_secret
    assert b"canary\n" in [record.plaintext for record in session.application_data]


@needs("openssl")
@pytest.mark.parametrize(
    ("suite", "name"),
    [
        ("ECDHE-ECDSA-AES128-CCM8", "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ],
)
def test_a_key_log_opens_what_has_certificates(
    router: RelayRouter, own_address: str, running: Running, tmp_path: Path, suite: str, name: str
) -> None:
    certificate, key, log = tmp_path / "certificate.pem", tmp_path / "key.pem", tmp_path / "keys.log"
    made = ["-x509", "-subj", "/CN=board", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "req", *made, *curve], check=True, capture_output=True)
    own = ["-cert", str(certificate), "-key", str(key), "-cipher", f"{suite}:@SECLEVEL=0", "-quiet", "-listen"]
    server = ["openssl", "s_server", "-dtls1_2", "-accept", f"{own_address}:5684", *own]
    with running(server, (own_address, 5684)), router.capture(tmp_path / "certificate.pcapng") as capture:
        client = openssl_client_command(router.endpoint_for(own_address, 5684), suite, PSK)
        subprocess.run([*client, "-keylogfile", str(log)], input=b"canary\n", capture_output=True, check=True)
    rows = [line.split() for line in log.read_text().splitlines() if line.startswith("CLIENT_RANDOM")]
    (session,) = dissect_capture(
        capture.packets(), {}, master_secrets={bytes.fromhex(row[1]): bytes.fromhex(row[2]) for row in rows}
    )
    assert (session.established, session.suite_name, session.undecryptable()) == (True, name, {})
    assert b"canary\n" in [record.plaintext for record in session.application_data]
    (without,) = dissect_capture(capture.packets(), {})
    assert not without.established


@needs("coap-server-gnutls")
@pytest.mark.parametrize(
    ("suite", "name"),
    [("PSK-AES128-CCM8", CCM_8), ("PSK-AES128-CBC-SHA256", "TLS_PSK_WITH_AES_128_CBC_SHA256")],
)
def test_libcoaps_server_on_gnutls_is_decrypted(
    router: RelayRouter, own_address: str, running: Running, tmp_path: Path, suite: str, name: str
) -> None:
    with (
        running(["coap-server-gnutls", "-A", own_address, "-k", PSK], (own_address, 5684)),
        router.capture(tmp_path / "gnutls.pcapng") as capture,
    ):
        openssl_client(router.endpoint_for(own_address, 5684), suite, text="canary\n")
    session = only(capture)
    assert (session.established, session.suite_name, session.undecryptable()) == (True, name, {})
    assert b"canary\n" in [record.plaintext for record in session.application_data]


@needs("openssl")
def test_without_extended_master_secret(
    router: RelayRouter, own_address: str, running: Running, tmp_path: Path
) -> None:
    config = tmp_path / "openssl.cnf"
    config.write_text(
        "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = old\n"
        "[old]\nOptions = -ExtendedMasterSecret\n"
    )
    server = openssl_server(own_address, "PSK-AES128-CCM8", "-listen")
    with (
        running(server, (own_address, 5684), OPENSSL_CONF=str(config)),
        router.capture(tmp_path / "old.pcapng") as capture,
    ):
        openssl_client(router.endpoint_for(own_address, 5684), "PSK-AES128-CCM8", text="canary\n")
    session = only(capture)
    assert (session.extended_master_secret, session.established) == (False, True)
    assert b"canary\n" in [record.plaintext for record in session.application_data]


@needs("coap-client-openssl")
@pytest.mark.parametrize("client", ["coap-client-openssl", "coap-client-gnutls"])
def test_libcoaps_client_is_decrypted(
    router: RelayRouter, own_address: str, running: Running, tmp_path: Path, client: str
) -> None:
    with running(openssl_server(own_address, "PSK-AES128-CCM8", "-listen"), (own_address, 5684)):
        front = router.endpoint_for(own_address, 5684)
        uri = f"coaps://{front[0]}:{front[1]}/light"
        command = [client, "-N", "-B", "1", "-u", IDENTITY, "-k", PSK, "-m", "get", uri]
        with router.capture(tmp_path / "client.pcapng") as capture:
            subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    session = only(capture)
    assert session.established
    assert ("0.01", "/light") in [(message.code_text, message.path) for _, message in messages(session)]


@needs("tshark")
@needs("coap-server-openssl")
def test_tshark_opens_the_capture_and_decrypts_it(router: RelayRouter, libcoap: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "shark.pcapng"
    with router.capture(path):
        tinydtls_get(router.endpoint_for(*libcoap), PSK, "/time")
    key = f"dtls.psk:{PSK.encode().hex()}"
    checked = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", key]
    command = ["tshark", "-r", str(path), *checked, "-d", "dtls.port==5684,coap", "-T", "fields"]
    wanted = ["-e", "frame.interface_name", "-e", "dtls.handshake.type", "-e", "coap.opt.uri_path", "-e", "udp.dstport"]
    bad = "ip.checksum.status == 0 || udp.checksum.status == 0 || _ws.malformed"
    with contextlib.chdir(tmp_path):
        rows = subprocess.run([*command, *wanted, "-Y", "dtls && udp.port == 5684"], capture_output=True, text=True)
        damaged = subprocess.run([*command, *wanted, "-Y", bad], capture_output=True, text=True)
    fields = [row.split("\t") for row in rows.stdout.splitlines()]
    assert {row[0] for row in fields} == {"board side"}, rows.stderr
    assert fields[0][1] == "1"
    assert "time" in [row[2] for row in fields]
    assert (damaged.stdout, damaged.returncode) == ("", 0)
