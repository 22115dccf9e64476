"""Who gets a session by a pre-shared key, and who does not: PSK-01 to PSK-10."""

import re
import secrets
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from rig.bench.bench import Bench
from rig.bench.config import BoardConfig, read_psk
from rig.coap.probe import Prober, attempt, witness
from rig.dtls.alerts import WARNING, Alert
from rig.dtls.client import CLOSE_NOTIFY, Client, Refused, Silence, Timers
from rig.dtls.contents import Finished, ServerHelloDone
from rig.dtls.conversation import Script, Send, Wait
from rig.dtls.handshake import ServerKeyExchange
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration
from rig.fixtures.measure import Measure
from rig.formats.checked_yaml import CheckedModel, load_checked
from rig.lag import LagMonitor

AES_128_CCM_8, RENEGOTIATION_SCSV = 0xC0A8, 0x00FF
HELLO = Timers(first_s=0.5, give_up_s=5.0)
REFUSED = Timers(first_s=0.7, give_up_s=2.0)
"""Silence after this is a refusal: a device with the right key answers within a round trip."""
GUESSED = Timers(first_s=0.4, give_up_s=1.0)
TOGETHER = 3
"""Handshakes at once: fewer than any device under test holds."""

IDENTITY_BYTES = (1, 16, 32, 33, 64, 128)
LONGEST_IDENTITY_BYTES, LONGEST_KEY_BYTES = 128, 64
SHORTEST_KEY_BITS = 112

PAIRS = 25
FALSE_ALARM = 1e-5
TOLERANCE_S = 0.05
"""A smaller difference of delays may pass unseen; the rig's own lag must be a tenth of it at most."""

GUESSES, GUESSES_PER_S = 24, 6.0
GOOD_HANDSHAKES = 6
SLOWER = 2.0
USUAL_AT_LEAST_S = 0.05
"""Handshakes that are usually quicker are compared as if they took this long: the rig's host has its own delays."""

DEFAULT_KEYS = Path(__file__).with_name("default_keys.yaml")
PERSONAL = {
    "a mail address": r"[^@\s]+@[^@\s]+\.\w+",
    "a MAC address": r"(?<![0-9a-f])[0-9a-f]{2}([:-]?[0-9a-f]{2}){5}(?![0-9a-f])",
    "a telephone number": r"(?<!\w)(\+\d|0)[\d ()/-]{7,}\d(?!\w)",
    "a social security number": r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)",
    "a long number, as of a card, a patient or an IMEI": r"(?<![0-9a-f])\d{9,}(?![0-9a-f])",
    "a date of birth": r"(?<!\d)(19|20)\d{2}-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)",
    "a serial number": r"\b(s/?n|serial)[ :_-]*\w+",
}
"""What names a person or a piece of hardware; letters of either case."""


@pytest.mark.requirement("PSK-01")
def test_handshake_with_ccm_8_carries_a_request(bench: Bench, probe: Prober, measure: Measure) -> None:
    client = probe.client(offered_suites=(AES_128_CCM_8, RENEGOTIATION_SCSV))
    with ExitStack() as captured:
        capture = captured.enter_context(measure.packets("handshake")) if bench.router else None
        with probe.session(client) as session:
            response = session.get(probe.life)
            session.get(probe.life)
    if capture is not None:
        measure.observe_session(measure.only_session(capture, {probe.identity.decode(): probe.psk}))
    measure.check(
        "PSK-01",
        f"handshake completes with TLS_PSK_WITH_AES_128_CCM_8 and GET {probe.life} is answered 2.05",
        client.suite.number == AES_128_CCM_8 and client.server_verified is True and response.code_text == "2.05",
        observed=f"cipher suite {client.suite.name}, both Finished right, GET {probe.life} {response.code_text}",
        evidence=[capture.path] if capture is not None else [],
    )


@pytest.mark.requirement("PSK-02")
def test_wrong_key_is_refused(probe: Prober, measure: Measure) -> None:
    keys = {"another key": _other_key(probe.psk), "the key without its last byte": probe.psk[:-1], "no key": b""}
    with probe.alive():
        found = _tried(probe, [probe.client(psk=key) for key in keys.values()], REFUSED)
    _require_tried("PSK-02", found, measure)
    measure.check(
        "PSK-02",
        "a wrong key ends in an alert or silence, with no protected record of the server",
        all(one.refused for one in found),
        observed=_told(keys, found),
    )


@pytest.mark.requirement("PSK-03")
def test_unknown_identity_is_refused(probe: Prober, measure: Measure) -> None:
    with probe.alive():
        found = _tried(probe, [probe.client(identity=_unknown(16))], REFUSED)
    _require_tried("PSK-03", found, measure)
    measure.check(
        "PSK-03",
        "the unknown identity ends in an alert or silence, with no protected record of the server",
        found[0].refused,
        observed=f"an unknown identity with the device's own key: {found[0]}",
    )


@pytest.mark.requirement("PSK-04")
def test_no_oracle_for_identities(probe: Prober, measure: Measure) -> None:
    with LagMonitor() as lag, probe.alive():
        first = _tried(probe, [_guess(probe, known) for known in (False, True)], REFUSED)
        _require_tried("PSK-04", first, measure)
        same = str(first[0]) == str(first[1])
        delays = _interleaved(probe) if same and first[0].kind == "alert" else None
    statement = "unknown identity and wrong key get the same answer, after delays of the same distribution"
    observed = f"unknown identity: {first[0]}; wrong key: {first[1]}"
    if delays is None:
        return measure.check("PSK-04", statement, same, observed=observed)
    unknown_s, wrong_s = delays
    p_value = rank_sum_p_value(unknown_s, wrong_s)
    medians = ", ".join(f"{1e3 * statistics.median(each):.2f} ms" for each in delays)
    observed += f"; medians of {PAIRS} delays each: {medians}; rank sum test p = {p_value:.2g}"
    if p_value >= FALSE_ALARM and lag.exceeds(TOLERANCE_S):
        observed += f"; the rig's own lag was {1e3 * lag.worst_s:.0f} ms, tolerance {1e3 * TOLERANCE_S:.0f} ms"
        measure.inconclusive("PSK-04", statement, observed=observed)
    return measure.check("PSK-04", statement, p_value >= FALSE_ALARM, observed=observed, false_alarm=FALSE_ALARM)


@pytest.mark.requirement("PSK-05")
def test_lengths_of_identities_and_keys(bench: Bench, probe: Prober, dut: Declaration, measure: Measure) -> None:
    identities, keys = dut.dtls.identity_bytes, dut.dtls.key_bytes
    with probe.alive(), witness(probe) as harm:
        offers = [probe.client(identity=_unknown(size), psk=_other_key(probe.psk)) for size in IDENTITY_BYTES]
        found = _tried(probe, offers, GUESSED)
        harmed = harm()
    _require_tried("PSK-05", found, measure)
    longest = _longest_credentials(bench, probe, dut) if bench.may_provision else ""
    measure.check(
        "PSK-05",
        f"identities to {LONGEST_IDENTITY_BYTES} and keys to {LONGEST_KEY_BYTES} octets are declared, do no harm as "
        "unknown ones, and the longest work",
        identities.max >= LONGEST_IDENTITY_BYTES
        and keys.max >= LONGEST_KEY_BYTES
        and not any(one.kind == "accepted" for one in found)
        and not harmed
        and longest in ("", "a full handshake"),
        observed=f"declared: identities of {identities.min} to {identities.max}, keys of {keys.min} to {keys.max} "
        f"octets; unknown identities of {', '.join(map(str, IDENTITY_BYTES))} octets: "
        f"{harmed or '; '.join(sorted({str(one) for one in found}))}"
        + (f"; provisioned with the longest of both: {longest}" if longest else ""),
        notes=[]
        if longest
        else [
            "that credentials of the declared lengths work was judged for the device's own alone "
            f"({len(probe.identity)} and {len(probe.psk)} octets): the rig does not provision this device"
        ],
    )


@pytest.mark.requirement("PSK-06")
def test_hostile_identities_are_harmless(probe: Prober, measure: Measure) -> None:
    own = probe.identity
    hostile = {
        "empty": b"",
        "1000 octets": own.ljust(1000, b"x"),
        "the device's own and a zero byte": own + b"\0x",
        "broken UTF-8": own + b"\xc3\x28\xff",
        "format directives": b"%s%n%x%s%n" * 3,
    }
    lie = (0xFFFF).to_bytes(2, "big") + own
    with probe.alive(), witness(probe) as harm:
        found = _tried(probe, [probe.client(identity=each) for each in hostile.values()], GUESSED)
        client = probe.client()
        lied = probe.run(_attempt(client, GUESSED, body=lie), client)
        harmed = harm()
    names = [*hostile, "a length of 65535 that is not there"]
    measure.check(
        "PSK-06",
        "hostile identities with the device's own key get no session and do no harm",
        not any(one.kind == "accepted" for one in [*found, lied]) and not harmed,
        observed=f"{_told(names, [*found, lied])}; {harmed or 'a session that was open is served afterwards'}",
    )


@pytest.mark.requirement("PSK-07")
def test_the_key_is_neither_published_nor_shared(bench: Bench, probe: Prober, measure: Measure) -> None:
    candidates = _published_keys() + _keys_of_other_boards(bench)
    with probe.alive():
        found = _tried(probe, [probe.client(psk=key) for _, key in candidates], GUESSED)
    _require_tried("PSK-07", found, measure)
    opened = [source for (source, _), one in zip(candidates, found, strict=True) if one.kind == "accepted"]
    others = len(bench.config.boards) - 1
    measure.check(
        "PSK-07",
        f"no published key and no other board's opens the device, and its own has {SHORTEST_KEY_BITS} bits at least",
        not opened and 8 * len(probe.psk) >= SHORTEST_KEY_BITS,
        observed=f"{len(found)} keys tried with the device's identity, opened by: {'; '.join(opened) or 'none'}; "
        f"its own key has {8 * len(probe.psk)} bits",
        notes=[] if others else ["keys of other boards were not tried: the bench has one board"],
    )


@pytest.mark.requirement("PSK-08")
def test_the_identity_names_nobody(bench: Bench, probe: Prober, measure: Measure) -> None:
    client = probe.client()
    with probe.session(client):
        pass
    identity = probe.identity.decode(errors="replace")
    in_clear = any(probe.identity in (each.datagram or b"") for each in client.sent)
    config = bench.board_config
    found = personal_marks(identity, config.mac if isinstance(config, BoardConfig) else "")
    measure.check(
        "PSK-08",
        "the identity in the ClientKeyExchange holds no mail or MAC address and no personal or serial number",
        in_clear and not found,
        observed=f"{identity!r}, sent in clear, holds {' and '.join(found) or 'nothing of the kind'}",
    )


@pytest.mark.requirement("PSK-09")
def test_no_identity_hint(probe: Prober, dut: Declaration, measure: Measure) -> None:
    client = probe.client()
    with probe.session(client):
        pass
    hints = [one.content for one in client.seen if isinstance(one.content, ServerKeyExchange)]
    declared = "declared" if dut.dtls.identity_hint else "not declared"
    measure.check(
        "PSK-09",
        "the server's flight has no ServerKeyExchange, unless an identity hint is declared",
        not hints or dut.dtls.identity_hint,
        observed=f"{f'ServerKeyExchange with the hint {hints[0].identity_hint!r}' if hints else 'no ServerKeyExchange'}"
        f"; a hint is {declared}",
    )


@pytest.mark.requirement("PSK-10")
def test_guessing_does_not_stop_the_service(probe: Prober, measure: Measure) -> None:
    usual = _good_handshakes(probe, every_s=0.1, guesses=0)
    usual_s = statistics.median(usual)
    limit_s = SLOWER * max(usual_s, USUAL_AT_LEAST_S)
    with LagMonitor() as lag:
        during = _good_handshakes(probe, every_s=GUESSES / GUESSES_PER_S / GOOD_HANDSHAKES, guesses=GUESSES)
    probe.prove_alive()
    statement = f"while keys are guessed, a handshake takes at most {SLOWER:g} times its usual time"
    during_s = statistics.median(during)
    observed = (
        f"median of {GOOD_HANDSHAKES} handshakes {1e3 * usual_s:.1f} ms before and {1e3 * during_s:.1f} ms during "
        f"{GUESSES} guesses at {GUESSES_PER_S:g}/s, limit {1e3 * limit_s:.0f} ms; slowest {1e3 * max(during):.1f} ms"
    )
    met = during_s <= limit_s
    if not met and lag.exceeds(limit_s):
        measure.inconclusive(
            "PSK-10", statement, observed=f"{observed}; the rig's own lag was {1e3 * lag.worst_s:.0f} ms"
        )
    measure.check("PSK-10", statement, met, observed=observed)


@dataclass(frozen=True)
class Attempt:
    """How a handshake that ought to be refused ended; ``protected`` counts the server's records of epoch 1.

    ``untried``: it did not get as far as the key. ``delay_s`` is the alert's, after the client's last flight.
    """

    kind: Literal["accepted", "alert", "silence", "untried"]
    text: str
    alert: Alert | None = None
    delay_s: float = 0.0
    protected: int = 0

    @property
    def refused(self) -> bool:
        """Whether the server let nobody in, by what it says and by what it sends."""
        return self.kind in ("alert", "silence") and not self.protected

    def __str__(self) -> str:
        return self.text + (f", {self.protected} protected records of the server" if self.protected else "")


def _attempt(client: Client, patience: Timers, body: bytes | None = None) -> Script[Attempt]:
    """Shake hands with whatever the client has for a key; *body* replaces that of the ClientKeyExchange."""
    client.timers = HELLO
    try:
        answer = yield from client.hello()
    except (Silence, Refused) as error:
        return Attempt("untried", f"the key was not asked for: {error}")
    assert isinstance(answer, ServerHelloDone), "a client that resumes nothing was given a resumed session"
    client.timers = patience
    sent_s = (yield Send()).t_s
    flight = client.client_key_exchange(body=body), client.change_cipher_spec(), client.finished()
    try:
        last = yield from client.flight(*flight, until=(Finished, Alert))
    except Silence:
        last = None
    protected = sum(one.epoch > 0 for one in client.seen)
    if isinstance(last, Finished) and client.server_verified:
        yield from client.send(client.alert(WARNING, CLOSE_NOTIFY))
        return Attempt("accepted", "a session", protected=protected)
    if isinstance(last, Alert):
        delay_s = client.seen[-1].t_s - sent_s
        text = f"alert {last.name} ({last.level}, {last.description})"
        return Attempt("alert", text, last, delay_s, protected)
    return Attempt("silence", f"silence for {patience.give_up_s:g} s", protected=protected)


def _tried(probe: Prober, clients: Sequence[Client], patience: Timers) -> list[Attempt]:
    found: list[Attempt] = []
    for at in range(0, len(clients), TOGETHER):
        found += probe.together([(client, _attempt(client, patience)) for client in clients[at : at + TOGETHER]])
    return found


def _require_tried(requirement: str, found: Sequence[Attempt], measure: Measure) -> None:
    untried = [one for one in found if one.kind == "untried"]
    if untried:
        measure.inconclusive(requirement, "every key and identity is tried", observed=untried[0].text)


def _told(names: Sequence[str] | dict[str, bytes], found: Sequence[Attempt]) -> str:
    return "; ".join(f"{name}: {one}" for name, one in zip(names, found, strict=True))


def _other_key(psk: bytes) -> bytes:
    return bytes(byte ^ 0x55 or 0xAA for byte in psk)


def _unknown(size: int) -> bytes:
    """Return an identity that nobody has."""
    return secrets.token_hex(size).encode()[:size]


def _guess(probe: Prober, known: bool) -> Client:
    """Return a client with a wrong key; its identity has the length of the device's either way."""
    identity = probe.identity if known else _unknown(len(probe.identity))
    return probe.client(identity=identity, psk=_other_key(probe.psk))


def _interleaved(probe: Prober) -> tuple[list[float], list[float]]:
    """Return the delays, in seconds, of alerts to unknown identities and to wrong keys, in an order that was drawn."""
    order = [False, True] * PAIRS
    secrets.SystemRandom().shuffle(order)
    delays: dict[bool, list[float]] = {False: [], True: []}
    for known in order:
        client = _guess(probe, known)
        delays[known].append(probe.run(_attempt(client, REFUSED), client).delay_s)
    return delays[False], delays[True]


def rank_sum_p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value of the Wilcoxon rank sum test, exact, also where values are equal.

    The distribution is that of all ways to deal the values out to the two groups.
    """
    values = np.concatenate([first, second])
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    # Twice the mean rank of equal values is whole.
    ranks = (2 * np.cumsum(counts) - counts + 1)[places]
    total, observed = int(ranks.sum()), int(ranks[: len(first)].sum())
    ways = np.zeros((len(first) + 1, total + 1))
    ways[0, 0] = 1.0
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, : total + 1 - rank].copy()
    sums = ways[len(first)] / ways[len(first)].sum()
    below, above = float(sums[: observed + 1].sum()), float(sums[observed:].sum())
    return min(1.0, 2 * min(below, above))


def _longest_credentials(bench: Bench, probe: Prober, dut: Declaration) -> str:
    """Provision the board with the longest identity and key that are asked for and declared; tell what comes of it."""
    identity = _unknown(min(dut.dtls.identity_bytes.max, LONGEST_IDENTITY_BYTES))
    size = min(dut.dtls.key_bytes.max, LONGEST_KEY_BYTES)
    key = bytes(byte or 1 for byte in secrets.token_bytes(size))
    try:
        with bench.provisioned(identity.decode(), key):
            outcome = attempt(probe, probe.client(identity=identity, psk=key))
            if outcome.session is not None:
                outcome.session.close()
            return outcome.text
    except DeviceError as error:
        return str(error)


class _DefaultKey(CheckedModel):
    key: str = ""
    hex: str = ""
    source: str

    @property
    def data(self) -> bytes:
        """The key's bytes."""
        return bytes.fromhex(self.hex) or self.key.encode()


class _DefaultKeys(CheckedModel):
    keys: tuple[_DefaultKey, ...]


def _published_keys() -> list[tuple[str, bytes]]:
    """Return published keys, each with what it is and where it stands."""
    rows = load_checked(DEFAULT_KEYS, _DefaultKeys).keys
    return [(f"{row.key or row.hex or 'an empty key'} ({row.source})", row.data) for row in rows]


def _keys_of_other_boards(bench: Bench) -> list[tuple[str, bytes]]:
    others = [one for one in bench.config.boards if one.name != bench.board_config.name]
    return [(f"the key of board {one.name}", read_psk(one, bench.path)) for one in others]


def personal_marks(identity: str, mac: str = "") -> list[str]:
    """Return what in *identity* names a person or a piece of hardware; *mac* is the device's own."""
    found = [what for what, pattern in PERSONAL.items() if re.search(pattern, identity, re.IGNORECASE)]
    digits = mac.replace(":", "")
    if digits and digits[-6:] in re.sub("[^0-9a-f]", "", identity.lower()):
        found.append("the device's own MAC address")
    return found


def _good_handshakes(probe: Prober, *, every_s: float, guesses: int) -> list[float]:
    """Return how long handshakes with the right key take, in seconds, while wrong keys are tried beside them."""
    good, bad = [probe.client() for _ in range(GOOD_HANDSHAKES)], [_guess(probe, True) for _ in range(guesses)]
    parts = [(client, _shake_hands_at(client, (number + 0.5) * every_s)) for number, client in enumerate(good)]
    tries = [(client, _guess_at(client, number / GUESSES_PER_S)) for number, client in enumerate(bad)]
    durations: list[float] = probe.together([*parts, *tries])
    return durations[:GOOD_HANDSHAKES]


def _shake_hands_at(client: Client, wait_s: float) -> Script[float]:
    """Shake hands after *wait_s* and close; return how long it took, infinite where it did not succeed."""
    begun_s = (yield Wait(wait_s)).t_s
    try:
        yield from client.handshake()
    except DeviceError:
        return float("inf")
    took_s = (yield Send()).t_s - begun_s
    yield from client.send(client.alert(WARNING, CLOSE_NOTIFY))
    return took_s


def _guess_at(client: Client, wait_s: float) -> Script[float]:
    """Try a wrong key after *wait_s*, and do not wait for the answer."""
    yield Wait(wait_s)
    try:
        yield from client.hello()
    except DeviceError:
        return 0.0
    yield from client.send(*client.last_flight())
    return 0.0
