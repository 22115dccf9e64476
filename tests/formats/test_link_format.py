"""CoRE Link Format (RFC 6690)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.formats.link_format import Link, LinkFormatError, parse_links


def test_the_examples_of_the_rfc() -> None:
    """RFC 6690 section 5."""
    text = (
        '</sensors>;ct=40;title="Sensor Index",</sensors/temp>;rt="temperature-c";if="sensor",'
        '</t>;anchor="/sensors/temp";rel="alternate"'
    )
    index, temp, alternate = parse_links(text)
    assert (index.target, index.value("ct"), index.value("title")) == ("/sensors", "40", "Sensor Index")
    assert temp == Link("/sensors/temp", (("rt", "temperature-c"), ("if", "sensor")))
    assert alternate.value("rel") == "alternate"


def test_commas_and_quotes_inside_a_quoted_value() -> None:
    (link,) = parse_links(r'</a>;title="one, \"two\"; three";obs')
    assert link.value("title") == 'one, "two"; three'
    assert link.has("obs")
    assert not link.has("ct")


@pytest.mark.parametrize("text", ["/light", "</a></b>", "</a", "</a>;=x", "</a>,", '</a>;title="open'])
def test_what_is_no_list_of_links_is_said_with_the_place(text: str) -> None:
    with pytest.raises(LinkFormatError, match="at character"):
        parse_links(text)


def test_nothing_is_an_empty_list() -> None:
    assert parse_links("") == ()


@given(st.text())
def test_any_text_gives_links_or_the_one_error(text: str) -> None:
    try:
        links = parse_links(text)
    except LinkFormatError:
        return
    assert all("<" not in link.target for link in links)
