import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.virtual.meter.scpi import (
    AMPERES,
    SECONDS,
    CommandTable,
    ScpiError,
    Unit,
    block,
    parse_boolean,
    parse_choice,
    parse_message,
    parse_number,
    short_form,
    split_outside_quotes,
)

mnemonics = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,10}", fullmatch=True)
arguments = st.lists(st.from_regex(r"[A-Za-z0-9.+-]{1,8}", fullmatch=True), max_size=3)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(mnemonics, min_size=1, max_size=4), st.booleans(), arguments), min_size=1, max_size=5)
)
def test_absolute_units_survive_being_written_and_parsed(units: list[tuple[list[str], bool, list[str]]]) -> None:
    text = ";".join(f":{':'.join(nodes)}{'?' * query} {','.join(values)}" for nodes, query, values in units)
    expected = [Unit(tuple(n.upper() for n in nodes), query, tuple(values)) for nodes, query, values in units]
    assert list(parse_message(text)) == expected


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_becomes_units_or_errors(text: str) -> None:
    for parsed in parse_message(text):
        assert isinstance(parsed, Unit | ScpiError)


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(",;"))
def test_splitting_loses_no_character(text: str, separator: str) -> None:
    assert separator.join(split_outside_quotes(text, separator)) == text


def test_a_relative_header_continues_the_path_of_the_one_before() -> None:
    headers = [unit.header for unit in parse_message("SAMP:COUN 1;TIM 2;*CLS;SOUR TIM;:INIT") if isinstance(unit, Unit)]
    assert headers == [("SAMP", "COUN"), ("SAMP", "TIM"), ("*CLS",), ("SAMP", "SOUR"), ("INIT",)]


def test_a_unit_that_is_no_scpi_does_not_stop_the_rest() -> None:
    first, second = parse_message("=bad 1;*CLS")
    assert isinstance(first, ScpiError)
    assert first.code == -102
    assert second == Unit(("*CLS",), False, ())


@pytest.mark.parametrize(
    ("text", "suffixes", "value"),
    [
        ("20E-6", SECONDS, 20e-6),
        ("20 us", SECONDS, 20e-6),
        ("1 MA", AMPERES, 1e-3),
        ("+.5", AMPERES, 0.5),
        ("3.", SECONDS, 3),
    ],
)
def test_numbers(text: str, suffixes: dict[str, float], value: float) -> None:
    assert parse_number(text, suffixes) == pytest.approx(value)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e99, max_value=1e99))
def test_every_float_that_python_prints_is_read_back(value: float) -> None:
    assert parse_number(repr(value)) == value


@pytest.mark.parametrize(("text", "code"), [("abc", -104), ("1 parsec", -131), ("", -104), ("1e9999", -104)])
def test_wrong_numbers(text: str, code: int) -> None:
    with pytest.raises(ScpiError) as error:
        parse_number(text, SECONDS)
    assert error.value.code == code


def test_choices_have_exactly_a_short_and_a_long_form() -> None:
    assert parse_choice("imm", "IMMediate", "EXTernal") == parse_choice("IMMEDIATE", "IMMediate") == "IMM"
    for text in ("IMME", "I", ""):
        with pytest.raises(ScpiError, match="-224"):
            parse_choice(text, "IMMediate")
    assert parse_boolean("1")
    assert not parse_boolean("off")


def test_a_command_is_found_by_every_spelling_a_manual_allows() -> None:
    table: CommandTable[str] = CommandTable()
    table.add("[SENSe:]CURRent[:DC]:RANGe[:UPPer]", "set")
    table.add("[SENSe:]CURRent[:DC]:RANGe[:UPPer]?", "ask")
    for text in ("CURR:RANG 1", "sens:curr:dc:rang:upp 1", "SENSE:CURRENT:DC:RANGE 1", "CURR:DC:RANGe 1"):
        (unit,) = parse_message(text)
        assert isinstance(unit, Unit)
        assert table.find(unit) == "set"
    for text in ("CURRE:RANG 1", "CURR:AC:RANG 1", "RANG 1", "CURR"):
        (unit,) = parse_message(text)
        assert isinstance(unit, Unit)
        with pytest.raises(ScpiError, match="-113"):
            table.find(unit)


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_a_block_says_its_own_length(payload: bytes) -> None:
    encoded = block(payload)
    digits = int(encoded[1:2])
    assert int(encoded[2 : 2 + digits]) == len(payload)
    assert encoded[2 + digits :] == payload


def test_short_form_is_the_capital_letters() -> None:
    assert short_form("PRETrigger") == "PRET"
