"""Programs that know nothing of the rig talk to the virtual board."""

import socket
import subprocess
from pathlib import Path
from typing import Any

Board = dict[str, Any]


def coap_client(board: Board, path: str, *options: str, identity: str | None = None) -> str:
    url = f"coaps://{board['coaps']['host']}:{board['coaps']['port']}{path}"
    key = bytes.fromhex(board["psk_hex"])
    # The client takes the key as a C string of raw bytes, which is why no byte of a key is zero.
    command: list[str | bytes] = ["coap-client-openssl", "-B", "5", "-u", identity or board["identity"], "-k", key]
    run = subprocess.run([*command, *options, url], capture_output=True, check=False)
    return run.stdout.decode(errors="replace")


def test_coap_client_reads_and_writes_the_light(flashed_board: Board) -> None:
    assert coap_client(flashed_board, "/light").strip() in ("on", "off")
    coap_client(flashed_board, "/light", "-m", "put", "-e", "on")
    assert coap_client(flashed_board, "/light").strip() == "on"
    assert "</light>" in coap_client(flashed_board, "/.well-known/core")


def test_coap_client_with_another_identity_gets_nothing(flashed_board: Board) -> None:
    said = coap_client(flashed_board, "/light", identity="somebody")
    assert "unknown PSK identity" in said
    assert said.strip() not in ("on", "off")


def test_openssl_s_client_shakes_hands(flashed_board: Board) -> None:
    command = ["openssl", "s_client", "-dtls1_2", "-connect", f"{flashed_board['coaps']['host']}:5684"]
    credentials = ["-psk_identity", flashed_board["identity"], "-psk", flashed_board["psk_hex"]]
    suite = ["-cipher", "PSK-AES128-CCM8:@SECLEVEL=0"]
    run = subprocess.run([*command, *credentials, *suite], input=b"", capture_output=True, check=False)
    assert "PSK-AES128-CCM8" in run.stdout.decode()
    assert "Extended master secret: yes" in run.stdout.decode()


def test_the_board_has_an_address_of_its_own_with_one_open_port(flashed_board: Board) -> None:
    host = flashed_board["coaps"]["host"]
    assert host.startswith("127.")
    assert host != "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect((host, 5683))
        sock.send(b"\x40\x00\x00\x01")
        try:
            sock.recv(100)
            raise AssertionError("plain CoAP answers")
        except ConnectionRefusedError:
            pass
    for port in (22, 80, 443, 5683, 5684):
        with socket.socket() as sock:
            assert sock.connect_ex((host, port)) != 0


def test_tshark_decrypts_a_run_with_the_key_of_the_board(flashed_board: Board, rig: Any, tmp_path: Path) -> None:
    ended = rig("run", "--bench", flashed_board["bench"], "--run-dir", tmp_path / "run", "-k", "ccm_8")
    assert ended.returncode == 0, ended.stdout
    (capture,) = (tmp_path / "run" / "captures").glob("*.pcapng")
    command = ["tshark", "-r", str(capture), "-o", f"dtls.psk:{flashed_board['psk_hex']}", "-Y", "coap"]
    run = subprocess.run([*command, "-T", "fields", "-e", "coap.opt.uri_path_recon"], capture_output=True, check=True)
    assert b"/stats" in run.stdout


def test_a_board_has_its_own_credentials_again_when_others_were_tried(flashed_board: Board, rig: Any) -> None:
    ended = rig("run", "security", "--bench", flashed_board["bench"], "-k", "lengths_of_identities")
    assert ended.returncode == 0, ended.stdout
    assert "provisioned with the longest of both: a full handshake" in ended.stdout
    assert coap_client(flashed_board, "/light").strip() in ("on", "off")
