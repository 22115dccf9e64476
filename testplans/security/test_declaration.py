"""The maker's declaration against the device: DCL-01, DCL-02, WIR-05."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from rig.bench.bench import Bench
from rig.coap.probe import Prober, request
from rig.coap.probe.survey import (
    METHOD_NOT_ALLOWED,
    NO_ANSWER,
    NOT_FOUND,
    NOT_TRIED,
    PSK_SUITES,
    answering_udp_ports,
    open_tcp_ports,
    survey_methods,
    survey_offers,
    survey_resources,
    survey_suites,
)
from rig.dtls import coap
from rig.dtls.coap import OptionNumber
from rig.errors import DeviceError
from rig.evidence.declaration import SUITE_NUMBERS, Declaration, Method, Resource
from rig.fixtures.measure import Measure

METHODS = ("GET", "POST", "PUT", "DELETE")
WELL_KNOWN = "/.well-known/core"
NOT_OFFERED = (METHOD_NOT_ALLOWED, NOT_FOUND, NOT_TRIED, "4.02")
"""What says nothing of a method that the maker does not declare."""


@pytest.mark.requirement("DCL-01")
def test_what_is_declared_is_there(probe: Prober, dut: Declaration, measure: Measure) -> None:
    broken = [*_suites_not_kept(probe, dut), *_resources_not_kept(probe, dut), *_sessions_not_kept(probe, dut)]
    measure.check(
        "DCL-01",
        "every declared suite completes a handshake, every declared resource answers its methods and keeps its form, "
        f"and {dut.dtls.sessions} sessions are served at once",
        not broken,
        observed="; ".join(broken)
        or f"{len(dut.dtls.suites)} suites, {len(dut.resources)} resources, "
        f"{dut.dtls.sessions} sessions: all as declared",
    )


@pytest.mark.requirement("DCL-02")
def test_what_is_there_is_declared(probe: Prober, dut: Declaration, measure: Measure) -> None:
    found = [*_suites_not_declared(probe, dut), *_extensions_not_declared(probe, dut), *_paths_not_declared(probe, dut)]
    measure.check(
        "DCL-02",
        "no suite, resumption, connection id, resource or method is offered beyond the declared ones",
        not found,
        observed=f"not declared: {'; '.join(found)}" if found else "nothing that is not declared",
    )


@pytest.mark.requirement("WIR-05")
def test_only_declared_ports_answer(bench: Bench, probe: Prober, dut: Declaration, measure: Measure) -> None:
    host, _ = bench.address()
    declared = {(one.transport, one.port) for one in dut.ports}
    with probe.alive():
        found = {("tcp", port) for port in open_tcp_ports(host)} | {("udp", port) for port in answering_udp_ports(host)}
    more = sorted(found - declared)
    measure.check(
        "WIR-05",
        "no port answers that is not declared, of TCP 1 to 1024 and the usual others, and of common UDP services",
        not more,
        observed=f"answering and not declared: {', '.join(f'{kind} {port}' for kind, port in more) or 'none'}",
    )


def _suites_not_kept(probe: Prober, dut: Declaration) -> list[str]:
    tried = survey_suites(probe, [SUITE_NUMBERS[name] for name in dut.dtls.suites if SUITE_NUMBERS[name] in PSK_SUITES])
    return [f"{PSK_SUITES[number]}: {one.why}" for number, one in tried.items() if one.suite != number]


def _suites_not_declared(probe: Prober, dut: Declaration) -> list[str]:
    others = [number for number, name in PSK_SUITES.items() if name not in dut.dtls.suites]
    tried = survey_suites(probe, others)
    return [PSK_SUITES[number] for number, one in tried.items() if one.suite is not None]


def _extensions_not_declared(probe: Prober, dut: Declaration) -> Iterator[str]:
    offers = survey_offers(probe, SUITE_NUMBERS[dut.dtls.suites[0]])
    if offers.connection_id and not dut.dtls.connection_id:
        yield "connection ids"
    for way in offers.resumed_by:
        if way not in dut.dtls.resumption:
            yield f"resumption by {way}"
    if offers.identity_hint and not dut.dtls.identity_hint:
        yield "a PSK identity hint"


def _resources_not_kept(probe: Prober, dut: Declaration) -> list[str]:
    with probe.session() as session:
        broken, readable = [], []
        for resource in dut.resources:
            answers = survey_methods(session, resource.path)
            broken += [
                f"{one} {resource.path}: {answers[one]}" for one in resource.methods if _is_not_kept(one, answers[one])
            ]
            if "GET" in resource.methods and answers["GET"] == "2.05":
                readable.append(resource)
        for resource in readable:
            answer = session.ask(request(coap.GET, resource.path, options=_observe(resource)))
            broken += _form_not_kept(resource, answer)
            if resource.observable:
                session.ask(request(coap.GET, resource.path, options=_observe(resource, 1), token=answer.token))
    return broken


def _is_not_kept(method: Method, answer: str) -> bool:
    return answer != "2.05" if method == "GET" else answer in (METHOD_NOT_ALLOWED, NOT_FOUND, NO_ANSWER)


def _form_not_kept(resource: Resource, answer: coap.Message) -> Iterator[str]:
    formats = [int.from_bytes(value, "big") for value in answer.values(OptionNumber.CONTENT_FORMAT)]
    if resource.content_format is not None and formats != [resource.content_format]:
        yield f"{resource.path} has Content-Format {formats or 'none'} where {resource.content_format} is declared"
    if resource.observable and answer.observe is None:
        yield f"{resource.path} does not take an observer"


def _observe(resource: Resource, value: int = 0) -> coap.Options:
    return ((int(OptionNumber.OBSERVE), bytes((value,)) if value else b""),) if resource.observable else ()


def _sessions_not_kept(probe: Prober, dut: Declaration) -> list[str]:
    """Open as many sessions as are declared; each of them must still answer when the last one is there."""
    with ExitStack() as stack:
        try:
            sessions = [stack.enter_context(probe.session()) for _ in range(dut.dtls.sessions)]
            for session in sessions:
                session.get(probe.life)
        except DeviceError as error:
            return [f"{dut.dtls.sessions} sessions at once: {error}"]
    return []


def _paths_not_declared(probe: Prober, dut: Declaration) -> list[str]:
    declared = {one.path.partition("?")[0]: set(one.methods) for one in dut.resources}
    with probe.session() as session:
        linked = [link.target.partition("?")[0] for link in survey_resources(session)]
        found = [f"resource {path}" for path in linked if path not in (*declared, WELL_KNOWN)]
        for path, methods in declared.items():
            answers = survey_methods(session, path)
            others = [one for one in METHODS if one not in methods and answers[one] not in NOT_OFFERED]
            found += [f"{one} {path} ({answers[one]})" for one in others]
    return found
