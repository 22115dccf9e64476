"""The application of firmware/main as the virtual bench runs it, judged by libcoap's and OpenSSL's own clients."""

import json
import re
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

GIVE_UP_S = 20.0
PowerUp = Callable[..., Any]


def code_of(output: str) -> str:
    """Return the code of the last response that coap-client shows, or nothing."""
    codes = re.findall(r"t:(?:ACK|CON|NON) c:([245]\.\d\d)", output)
    return codes[-1] if codes else ""


def payload_of(output: str) -> str:
    payloads = re.findall(r":: '(.*)'", output)
    return payloads[-1] if payloads else ""


def udp_socket(chip: Any, port: int) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(GIVE_UP_S)
    client.connect((chip.address, port))
    return client


# --- resources -------------------------------------------------------------------------------------------------------


def test_light_is_read_and_set(chip: Any) -> None:
    first = chip.coap("get", "/light")
    assert (code_of(first), payload_of(first)) == ("2.05", "off")
    assert "Content-Format:text/plain" in first
    assert code_of(chip.coap("put", "/light", "-e", "on")) == "2.04"
    assert payload_of(chip.coap("get", "/light")) == "on"


def test_light_refuses_other_bodies(chip: Any) -> None:
    for body in ("ON", "on ", "o", "onoff", "1", "x" * 1500):
        assert code_of(chip.coap("put", "/light", "-e", body)) == "4.00", body
    assert code_of(chip.coap("put", "/light")) == "4.00"
    assert payload_of(chip.coap("get", "/light")) == "off"


def test_other_methods_and_paths_are_refused(chip: Any) -> None:
    assert code_of(chip.coap("delete", "/light")) == "4.05"
    assert code_of(chip.coap("get", "/power")) == "4.05"
    assert code_of(chip.coap("get", "/nothing")) == "4.04"


def test_stats_tell_the_state(chip: Any) -> None:
    chip.coap("get", "/light")
    output = chip.coap("get", "/stats")
    stats = json.loads(payload_of(output))
    assert "Content-Format:application/json" in output
    counters = {"handshakes", "failed_handshakes", "sessions", "half_open", "evicted", "duplicates"}
    assert set(stats) == counters | {"boot_count", "reset_reason", "wake_cause", "free_heap", "uptime_ms"}
    assert (stats["boot_count"], stats["reset_reason"], stats["handshakes"]) == (1, "power on", 2)
    assert 0 < stats["free_heap"] < 400 * 1024
    assert stats["uptime_ms"] >= 300


def test_observers_are_notified_of_real_changes_only(chip: Any) -> None:
    command = ["coap-client-openssl", "-v", "6", "-u", "board-under-test", "-k", "0123456789abcdef", "-s", "30"]
    with subprocess.Popen([*command, f"coaps://{chip.address}/light"], stdout=subprocess.PIPE, text=True) as observer:
        assert observer.stdout is not None
        chip.console.wait_for("mark: request_end .*code=2.05")
        for value in ("off", "on", "on", "off"):
            chip.coap("put", "/light", "-e", value)
        seen: list[str] = []
        for line in observer.stdout:
            seen.append(line)
            if sum("t:CON c:2.05" in text for text in seen) == 2:
                break
        observer.kill()  # SIGTERM would make it send one more GET, to deregister
        seen += observer.stdout.readlines()
    notifications = [line for line in seen if "t:CON c:2.05" in line]
    assert [payload_of(line) for line in notifications] == ["on", "off"]
    assert len({re.search(r"\{(\w+)\}", line)[1] for line in seen if "c:2.05" in line}) == 1  # type: ignore[index]
    assert chip.marks().count("request_start method=GET path=/light") == 1


# --- who gets in -----------------------------------------------------------------------------------------------------


def test_unknown_identity_is_refused_with_the_right_key(chip: Any) -> None:
    output = chip.coap("get", "/light", identity="somebody-else")
    assert "unknown PSK identity" in output or "unknown psk identity" in output
    assert code_of(output) == ""
    chip.console.wait_for("handshake_end .*ok=0")


def test_identities_that_resemble_the_right_one_are_refused(chip: Any) -> None:
    for identity in ("board-under-tes", "board-under-testboard-under-test", "Board-under-test", "x" * 127):
        assert code_of(chip.coap("get", "/light", identity=identity)) == "", identity
    assert code_of(chip.coap("get", "/light")) == "2.05"


def test_wrong_key_gets_no_session(chip: Any) -> None:
    assert code_of(chip.coap("get", "/light", "-B", "1", key=b"0123456789abcdeF")) == ""
    assert payload_of(chip.coap("get", "/light")) == "off"
    chip.console.wait_for("request_end")
    assert chip.marks().count("handshake_end ok=1") == 1


def test_openssl_negotiates_ccm_8(chip: Any) -> None:
    command = ["openssl", "s_client", "-dtls1_2", "-connect", f"{chip.address}:5684", "-cipher", "PSK-AES128-CCM8"]
    command += ["-psk_identity", "board-under-test", "-psk", b"0123456789abcdef".hex()]
    done = subprocess.run(command, input="Q\n", capture_output=True, text=True, check=False, timeout=GIVE_UP_S)
    assert "Cipher is PSK-AES128-CCM8" in done.stdout
    chip.console.wait_for("handshake_end .*ok=1")


def test_plain_coap_is_closed(chip: Any) -> None:
    with udp_socket(chip, 5683) as client:
        client.send(bytes.fromhex("40010001b56c69676874"))
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
    assert payload_of(chip.coap("get", "/light")) == "off"


def test_fault_plain_coap_open(power_up: PowerUp) -> None:
    chip = power_up(fault="plain-coap-open")
    chip.wait_until_up()
    with udp_socket(chip, 5683) as client:
        client.send(bytes.fromhex("40010001b56c69676874"))
        assert client.recv(100).endswith(b"\xffoff")
    assert payload_of(chip.coap("get", "/light")) == "off"
    assert code_of(chip.coap("get", "/light", identity="somebody-else")) == ""


def test_fault_any_psk_identity(power_up: PowerUp) -> None:
    chip = power_up(fault="any-psk-identity")
    chip.wait_until_up()
    assert payload_of(chip.coap("get", "/light", identity="somebody-else")) == "off"
    assert code_of(chip.coap("get", "/light", "-B", "1", key=b"0123456789abcdeF")) == ""
    with udp_socket(chip, 5683) as client:
        client.send(bytes.fromhex("40010001b56c69676874"))
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


def test_handshakes_that_fail_end_and_the_next_one_works(chip: Any) -> None:
    command = ["openssl", "s_client", "-dtls1_2", "-connect", f"{chip.address}:5684", "-cipher", "ECDHE-RSA-AES128-SHA"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=GIVE_UP_S)
    chip.console.wait_for("handshake_end .*ok=0")
    assert payload_of(chip.coap("get", "/light")) == "off"


# --- limits, end ------------------------------------------------------------------------------------------------------


def test_power_refuses_what_is_no_duration(chip: Any) -> None:
    for body in ("0", "-1", "+5", " 5", "5 ", "1e3", "86400001", "99999999999999", "0x10", "soon"):
        assert code_of(chip.coap("put", "/power", "-e", body)) == "4.00", body
    assert code_of(chip.coap("put", "/power")) == "4.00"
    assert payload_of(chip.coap("get", "/light")) == "off"


def test_closed_console_ends_the_process(chip: Any) -> None:
    chip.close_console_input()
    chip.process.wait(GIVE_UP_S)


@pytest.mark.parametrize(
    ("nvs", "complaint"),
    [
        ({}, "no credentials in NVS (namespace coaps: identity, psk); refusing to start"),
        ({("coaps", "identity", "str"): b"x"}, "no credentials in NVS"),
        ({("coaps", "identity", "str"): b"x", ("coaps", "psk", "str"): b"k" * 16}, "no credentials in NVS"),
        ({("coaps", "identity", "str"): b"x" * 129, ("coaps", "psk", "blob"): b"k" * 16}, "no credentials in NVS"),
        ({("coaps", "identity", "str"): b"x", ("coaps", "psk", "blob"): b"k" * 65}, "no credentials in NVS"),
        ({("coaps", "identity", "str"): b"", ("coaps", "psk", "blob"): b"k" * 16}, "identity in NVS is empty"),
        ({("coaps", "identity", "str"): b"x", ("coaps", "psk", "blob"): b"k" * 15}, "psk in NVS has 15 bytes"),
        ({("coaps", "identity", "str"): b"x", ("coaps", "psk", "blob"): b"k" * 16}, "no wireless network in NVS"),
    ],
)
def test_unprovisioned_board_stays_up_without_service(
    power_up: PowerUp, nvs: dict[tuple[str, str, str], bytes], complaint: str
) -> None:
    chip = power_up(nvs=nvs)
    line = chip.console.all[chip.console.wait_for(re.escape(complaint))]
    assert line.startswith("E (")
    chip.messages.wait_for("gpio 4 0")
    assert chip.events() == ["state cpu", "gpio 4 1", "gpio 4 0"]
    assert chip.process.poll() is None


def test_secrets_stay_off_the_console(chip: Any) -> None:
    chip.coap("get", "/light")
    chip.coap("get", "/light", identity="somebody-else")
    console = "\n".join(chip.console.all)
    assert "0123456789abcdef" not in console
    assert b"0123456789abcdef".hex() not in console
    assert "correct horse" not in console
