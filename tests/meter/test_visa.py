import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.meter import MeterError
from rig.meter.visa import VisaSession, block_digits, compound


@contextmanager
def peer(answer: Callable[[bytes], bytes | None]) -> Iterator[str]:
    """A TCP peer that answers each line with what *answer* returns; None hangs up."""
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            # A session that gives a connection up leaves bytes unread: that is a reset.
            with contextlib.suppress(ConnectionError), connection, connection.makefile("rb") as lines:
                for line in lines:
                    reply = answer(line.strip())
                    if reply is None:
                        break
                    connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"TCPIP::127.0.0.1::{listener.getsockname()[1]}::SOCKET"
        finally:
            stop.set()
            thread.join()


def test_closed_port_is_one_clear_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(MeterError, match=rf"^meter TCPIP::127.0.0.1::{port}::SOCKET: does not answer \*IDN\?"):
        VisaSession(f"TCPIP::127.0.0.1::{port}::SOCKET").__enter__()


def test_wrong_names_are_one_clear_sentence() -> None:
    with pytest.raises(MeterError, match="cannot be opened"):
        VisaSession("no such resource").__enter__()
    with pytest.raises(MeterError, match=r"host meter\.invalid is not known"):
        VisaSession("TCPIP::meter.invalid::5025::SOCKET").__enter__()


def test_somebody_who_never_answers_is_not_waited_for_long() -> None:
    with peer(lambda _: b"") as resource, pytest.raises(MeterError, match="nothing within 2 s"):
        VisaSession(resource).__enter__()


def test_a_late_answer_does_not_become_the_answer_to_the_next_question(virtual: Any) -> None:
    with VisaSession(virtual.visa) as session:
        session.command("slow", "CONF:CURR:DC 1", "SAMP:SOUR TIM", "SAMP:TIM 1", "SAMP:COUN 3", "INIT")
        with pytest.raises(MeterError, match="no proper answer to 'FETC"):
            session.query("FETC?")
        assert ",34465A," in session.query("*IDN?")
        assert session.query("*OPC?;*OPT?") == "1;DIG,MEM"


def test_a_session_works_again_when_the_instrument_is_back() -> None:
    hang_up = threading.Event()

    def answer(line: bytes) -> bytes | None:
        if line == b"*OPT?" and not hang_up.is_set():
            hang_up.set()
            return None
        return line + b"\n"

    with peer(answer) as resource, VisaSession(resource) as session:
        with pytest.raises(MeterError):
            session.query("*OPT?")
        assert session.query("*OPT?") == "*OPT?"


@settings(max_examples=40, deadline=None)
@given(payload=st.binary(max_size=5000))
def test_any_payload_comes_through_a_block(payload: bytes) -> None:
    length = str(len(payload)).encode()

    def answer(line: bytes) -> bytes:
        return b"#%d%b%b\n" % (len(length), length, payload) if line == b"R?" else b"me\n"

    with peer(answer) as resource, VisaSession(resource) as session:
        assert session.query_block("R?") == payload
        assert session.query("*IDN?") == "me"


def test_a_large_block_full_of_line_feeds() -> None:
    payload = np.full(500_000, 10, np.uint8).tobytes()

    def answer(line: bytes) -> bytes:
        return b"#6500000" + payload + b"\n" if line == b"R?" else b"me\n"

    with peer(answer) as resource, VisaSession(resource) as session:
        assert session.query_block("R?") == payload


@pytest.mark.parametrize("reply", [b"#0abc\n", b"12\n", b"#x1\n", b"#2zz\n", b"#15abcdeX\n"])
def test_what_is_no_definite_block_is_refused(reply: bytes) -> None:
    with (
        peer(lambda line: reply if line == b"R?" else b"me\n") as resource,
        VisaSession(resource) as session,
    ):
        with pytest.raises(MeterError, match=r"no proper answer to 'R\?'"):
            session.query_block("R?")
        assert session.query("*IDN?") == "me"


@settings(deadline=None)
@given(st.binary(max_size=4))
def test_a_block_begins_with_a_hash_and_a_digit(mark: bytes) -> None:
    try:
        digits = block_digits(mark)
    except ValueError:
        digits = 0
    assert digits == (int(mark[1:]) if len(mark) == 2 and mark[:1] == b"#" and mark[1:] in b"123456789" else 0)


def test_compound_messages_start_from_the_root() -> None:
    assert compound("*CLS", "INIT", "STAT:OPER:COND?") == "*CLS;:INIT;:STAT:OPER:COND?"
