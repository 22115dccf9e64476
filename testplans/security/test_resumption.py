"""Sessions that are taken up again, by id and by ticket: RSM-01, RSM-02, RSM-03, RSM-04."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rig.bench.bench import Bench
from rig.coap.probe import Outcome, Prober, attempt
from rig.dtls.client import Client, Refused, Silence
from rig.dtls.connection import EXTENSIONS, RENEGOTIATION_SCSV, ResumableSession
from rig.dtls.contents import NewSessionTicket
from rig.dtls.extensions import ExtendedMasterSecret, SessionTicket, pairs
from rig.dtls.suites import SUITES, suite_name
from rig.evidence.declaration import Declaration
from rig.fixtures.measure import Measure

DAY_S = 24 * 3600
LONGEST_WAIT_S = 30.0
SESSION_ID_BYTES, TICKET_BYTES = 32, 160
WITH_TICKET = EXTENSIONS + pairs(SessionTicket())
OFFERS = {"session-id": EXTENSIONS, "ticket": WITH_TICKET}


@pytest.mark.requirement("RSM-01")
def test_claimed_resumption_works(probe: Prober, dut: Declaration, measure: Measure) -> None:
    tried = {means: _resumed_by(probe, means) for means in dut.dtls.resumption}
    if "session-id" in tried and tried["session-id"][1].kind == "abbreviated":
        _observe_saving(probe, measure)
    probe.prove_alive()
    measure.check(
        "RSM-01",
        f"a session is resumed in an abbreviated handshake by {' and by '.join(tried)}, as declared",
        all(outcome.kind == "abbreviated" for _, outcome in tried.values()),
        observed="; ".join(f"{means}: {told}, offered again: {came.text}" for means, (told, came) in tried.items()),
    )


@pytest.mark.requirement("RSM-02")
def test_stale_ids_and_tickets_lead_to_a_full_handshake(probe: Prober, bench: Bench, measure: Measure) -> None:
    tried = []
    for what, stale in _stale(probe, bench):
        outcome = _tried(probe, probe.client(resume=stale))
        tried.append((f"{what}: {outcome.text}", outcome.kind == "full" and outcome.text.endswith("2.05")))
    probe.prove_alive()
    measure.check(
        "RSM-02",
        "a session id or ticket that the device cannot know leads to a full handshake and a session that is served",
        all(met for _, met in tried),
        observed="; ".join(told for told, _ in tried),
    )


@pytest.mark.requirement("RSM-03")
def test_resumption_keeps_suite_and_extended_master_secret(probe: Prober, dut: Declaration, measure: Measure) -> None:
    statement = "a session is not resumed by a client that leaves its suite or its extended master secret out"
    resumable = [means for means in dut.dtls.resumption if _resumed_by(probe, means)[1].kind == "abbreviated"]
    if not resumable:
        measure.inconclusive("RSM-03", statement, observed="no session was resumed on its own terms, so none on others")
    tried = [(means, *each) for means in resumable for each in _on_other_terms(probe, dut, means)]
    probe.prove_alive()
    measure.check(
        "RSM-03",
        statement,
        all(outcome.kind in ("full", "refused") for _, _, outcome in tried),
        observed="; ".join(f"{means}, {terms}: {outcome.text}" for means, terms, outcome in tried),
    )


@pytest.mark.requirement("RSM-04")
def test_a_session_can_be_resumed_for_a_day_at_most(probe: Prober, dut: Declaration, measure: Measure) -> None:
    statement = "the ticket's lifetime hint and the declared lifetime are 24 h at most; a declared one is kept"
    declared_s, client, _ = dut.dtls.session_lifetime_s, *_left_by(probe, WITH_TICKET)
    hints = [one.content.lifetime_s for one in client.seen if isinstance(one.content, NewSessionTicket)]
    named = [declared_s] if declared_s is not None else []
    named += [hint for hint in hints if hint]  # RFC 5077 3.3: 0 leaves it unspecified
    told = f"lifetime hint {f'{hints[0]} s' if hints else 'none: no ticket came'}; declared: "
    told += f"{declared_s:g} s" if declared_s is not None else "nothing"
    if not named:
        measure.inconclusive("RSM-04", statement, observed=f"{told}; only a day's wait would tell")
    kept, waited = _outlived(probe, dut) if declared_s is not None and declared_s <= LONGEST_WAIT_S else (True, "")
    probe.prove_alive()
    longest_s = DAY_S if declared_s is None else min(DAY_S, declared_s)
    measure.check("RSM-04", statement, max(named) <= longest_s and kept, observed=told + waited)


def _left_by(probe: Prober, offer: tuple[tuple[int, bytes], ...]) -> tuple[Client, ResumableSession]:
    """Make a session, use it and close it; return its client and what is kept of it."""
    client = probe.client(hello_extensions=offer)
    with probe.session(client) as session:
        session.get(probe.life)
    return client, client.session


def _resumed_by(probe: Prober, means: str) -> tuple[str, Outcome]:
    """Return what the device handed out, and how the attempt ended to resume by it."""
    _, kept = _left_by(probe, OFFERS[means])
    if means == "ticket" and not kept.ticket:
        return "no ticket handed out", Outcome("full", "nothing to offer")
    if not kept.session_id:
        return "no session id handed out", Outcome("full", "nothing to offer")
    told = f"ticket of {len(kept.ticket)} bytes" if kept.ticket else f"session id of {len(kept.session_id)} bytes"
    outcome = _tried(probe, probe.client(resume=kept))
    if outcome.kind == "abbreviated" and not outcome.text.endswith("2.05"):
        return told, replace(outcome, kind="unverified")
    return told, outcome


def _observe_saving(probe: Prober, measure: Measure) -> None:
    """Put the bytes of a full handshake, and those that an abbreviated one saves, into the record."""
    full = probe.client()
    with probe.session(full):
        full_bytes = _handshake_bytes(full)
    again = probe.client(resume=full.session)
    with probe.session(again):
        saved_bytes = full_bytes - _handshake_bytes(again)
    measure.observe("handshake_bytes", full_bytes, "B", suite=full.suite.name)
    measure.observe("resumption_bytes_saved", saved_bytes, "B", suite=full.suite.name)


def _handshake_bytes(client: Client) -> int:
    return sum(len(moment.datagram or b"") for moment in (*client.sent, *client.received))


def _tried(probe: Prober, client: Client) -> Outcome:
    """Try a handshake, ask something if there is a session, close it; return how it all ended."""
    outcome = attempt(probe, client)
    return replace(outcome, text=outcome.text + _served(probe, outcome))


def _served(probe: Prober, outcome: Outcome) -> str:
    """Ask something in the session that came of an attempt, and close it; return the answer in words."""
    if outcome.session is None:
        return ""
    try:
        answer = outcome.session.get(probe.life).code_text
    except (Silence, Refused) as error:
        answer = str(error)
    outcome.session.close()
    return f", GET {probe.life}: {answer}"


def _stale(probe: Prober, bench: Bench) -> Iterator[tuple[str, ResumableSession]]:
    """Yield what the device cannot know any more, or never knew, and what it is."""
    _, by_id = _left_by(probe, EXTENSIONS)
    yield "a random session id", replace(by_id, session_id=secrets.token_bytes(SESSION_ID_BYTES), ticket=b"")
    if by_id.session_id:
        yield "its session id with one bit changed", replace(by_id, session_id=_flipped(by_id.session_id, -1))
    _, by_ticket = _left_by(probe, WITH_TICKET)
    if not by_ticket.ticket:
        invented = replace(by_id, session_id=secrets.token_bytes(SESSION_ID_BYTES))
        yield "a random ticket", replace(invented, ticket=secrets.token_bytes(TICKET_BYTES))
    else:
        for at in (0, len(by_ticket.ticket) // 2, len(by_ticket.ticket) - 1):
            yield f"its ticket with byte {at} changed", replace(by_ticket, ticket=_flipped(by_ticket.ticket, at))
    before = by_ticket if by_ticket.ticket else by_id
    if bench.board is not None and before.session_id:
        bench.reset()
        yield f"its {'ticket' if before.ticket else 'session id'} from before a restart", before


def _flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _on_other_terms(probe: Prober, dut: Declaration, means: str) -> Iterator[tuple[str, Outcome]]:
    """Yield what was changed in the offer to resume, and how the attempt ended."""
    client, kept = _left_by(probe, OFFERS[means])
    other = _other_suite(dut, kept.suite)
    changed = probe.client(resume=kept, offered_suites=(other, RENEGOTIATION_SCSV))
    yield f"offering {suite_name(other)} instead of {suite_name(kept.suite)}", _tried(probe, changed)
    if client.server_hello is not None and client.server_hello.extended_master_secret:
        _, kept = _left_by(probe, OFFERS[means])
        without = tuple(one for one in EXTENSIONS if one[0] != ExtendedMasterSecret.number)
        yield "without extension 23", _tried(probe, probe.client(resume=kept, hello_extensions=without or None))


def _other_suite(dut: Declaration, suite: int) -> int:
    """Return another suite than the session's: one that the device declares, or else one that it may well know."""
    declared = [one.number for one in SUITES.values() if one.name in dut.dtls.suites]
    known = [one.number for one in SUITES.values() if one.key_exchange == "psk" and one.mode in ("ccm", "gcm")]
    return next(number for number in (*declared, *known) if number != suite)


def _outlived(probe: Prober, dut: Declaration) -> tuple[bool, str]:
    """Try to resume when the declared lifetime is over; return whether that was kept, and what was seen."""
    declared_s, told, kept = dut.dtls.session_lifetime_s, "", True
    assert declared_s is not None
    left = [(means, _left_by(probe, OFFERS[means])[1]) for means in dut.dtls.resumption]
    time.sleep(declared_s + 1.0)
    for means, session in left:
        outcome = _tried(probe, probe.client(resume=session))
        kept = kept and outcome.kind == "full"
        told += f"; {means} {declared_s + 1:g} s after its session: {outcome.text}"
    return kept, told
