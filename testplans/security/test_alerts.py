"""Alerts of the client and what they end: ALR-01, ALR-02, ALR-03."""

import pytest

from rig.coap.probe import NotCoap, Prober, ProbeSession, attempt, request
from rig.dtls import coap
from rig.dtls.alerts import FATAL, WARNING, Alert
from rig.dtls.client import Refused, Silence
from rig.dtls.connection import EXTENSIONS
from rig.dtls.extensions import SessionTicket, pairs
from rig.evidence.declaration import Declaration
from rig.fixtures.measure import Measure

INTERNAL_ERROR, NO_RENEGOTIATION = 80, 100
ANSWER_S = 2.0
"""How long an answer is waited for that must not come, and a close_notify that must."""


@pytest.mark.requirement("ALR-01")
def test_close_notify_is_answered_and_ends_the_session(probe: Prober, measure: Measure) -> None:
    session = _answering(probe)
    answered = session.close(within_s=ANSWER_S)
    later = _answers_afterwards(session, probe)
    probe.prove_alive()
    measure.check(
        "ALR-01",
        "a protected close_notify is answered with one, and a later request in that session is not answered",
        answered and not later,
        observed=f"close_notify (1, 0) sent: {_alerts(session)} came; GET {probe.life} sent in the same session: "
        f"{later or 'no answer'} within {ANSWER_S:g} s; a new session is served",
    )


@pytest.mark.requirement("ALR-02")
def test_a_fatal_alert_ends_the_session_for_good(probe: Prober, dut: Declaration, measure: Measure) -> None:
    later, resumed, came = _after_a_fatal_alert(probe, ticket=False)
    notes = [_by_ticket(probe)] if "ticket" in dut.dtls.resumption else []
    probe.prove_alive()
    measure.check(
        "ALR-02",
        "after a protected fatal alert no request is answered in the session, and it is not resumed by its id",
        not later and not resumed,
        observed=f"internal_error (2, 80) sent, then GET {probe.life}: {later or 'no answer'} within {ANSWER_S:g} s; "
        f"then {came}",
        notes=notes,
    )


@pytest.mark.requirement("ALR-03")
def test_a_warning_does_not_end_the_session(probe: Prober, measure: Measure) -> None:
    session = _answering(probe)
    session.run(session.client.send(session.client.alert(WARNING, NO_RENEGOTIATION)))
    answer = _asked(session, probe.life)
    probe.prove_alive()
    measure.check(
        "ALR-03",
        "after a protected warning no_renegotiation the session's next request is answered",
        answer == "2.05",
        observed=f"no_renegotiation (1, 100) sent, then GET {probe.life}: {answer}; alerts of the device: "
        f"{_alerts(session)}; a new session is served",
    )


def _answering(probe: Prober, *, ticket: bool = False) -> ProbeSession:
    """Return a session in which a request has been answered: what it does not answer later means something."""
    session = probe.connect(
        probe.client(hello_extensions=EXTENSIONS + pairs(SessionTicket()) if ticket else EXTENSIONS)
    )
    session.get(probe.life)
    return session


def _after_a_fatal_alert(probe: Prober, *, ticket: bool) -> tuple[str, bool, str]:
    """Return what was answered after the alert, whether the session was resumed, and what was tried and came of it."""
    session = _answering(probe, ticket=ticket)
    session.run(session.client.send(session.client.alert(FATAL, INTERNAL_ERROR)))
    later = _answers_afterwards(session, probe)
    kept = session.client.session
    if not kept.session_id:
        return later, False, "the device had handed out no session id and no ticket to resume by"
    means = f"ticket of {len(kept.ticket)} bytes" if kept.ticket else f"session id of {len(kept.session_id)} bytes"
    outcome = attempt(probe, probe.client(resume=kept))
    if outcome.session is not None:
        outcome.session.close()
    return later, outcome.kind == "abbreviated", f"resumption by its {means} tried: {outcome.text}"


def _by_ticket(probe: Prober) -> str:
    """Tell of tickets, which are no part of the verdict: the clause speaks of session identifiers."""
    _, resumed, came = _after_a_fatal_alert(probe, ticket=True)
    return f"{came}; the clause does not reach a ticket of which the server keeps no copy" if resumed else came


def _answers_afterwards(session: ProbeSession, probe: Prober) -> str:
    """Send a request in a session that should be over; return what is answered, in words, or nothing."""
    session.tell(request(coap.GET, probe.life))
    return ", ".join("no CoAP" if isinstance(one, NotCoap) else one.code_text for one in session.hear(ANSWER_S))


def _asked(session: ProbeSession, path: str) -> str:
    try:
        return session.get(path).code_text
    except (Silence, Refused) as error:
        return str(error)


def _alerts(session: ProbeSession) -> str:
    """Return the protected alerts that came, with the time since the last datagram that was sent before them."""
    came = [one for one in session.client.seen if isinstance(one.content, Alert) and one.epoch]
    texts = []
    for one in came:
        alert, sent_s = one.content, max(each.t_s for each in session.client.sent if each.t_s <= one.t_s)
        assert isinstance(alert, Alert)
        texts.append(f"{alert.name} ({alert.level}, {alert.description}) after {1e3 * (one.t_s - sent_s):.1f} ms")
    return ", ".join(texts) or "none"
