"""The query language: what is read out of a text, what is said of mistakes, and that no text breaks it."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spanyard_gateway.live.records import LiveSignal, LogRecord, Record, SpanRecord
from spanyard_gateway.live.searching import search_test
from spanyard_gateway.search.bound import Part, bound
from spanyard_gateway.search.docs import with_table
from spanyard_gateway.search.errors import SearchError
from spanyard_gateway.search.fields import FIELDS, Signal
from spanyard_gateway.search.nearest import nearest
from spanyard_gateway.search.nodes import All, AnyOf, Node, Not, Term, terms
from spanyard_gateway.search.parser import DEEPEST, MOST_CHARACTERS, MOST_TERMS, parse
from spanyard_gateway.search.values import text_test
from spanyard_gateway.search.words import line_of_words

PAGE = Path(__file__).parents[3] / "docs" / "search.md"
PIECES = ["level:", "error", '"', "(", ")", "-", " OR ", " AND ", "NOT ", "@a:", "attr.", "attr.:", ":", ",", "*", ">", ">=2s", " ", "\\", "tokens:", "é", "😀", "\ud800", "\0", "\t"]  # fmt: skip


def told(node: Node) -> str:
    """A tree in a line."""
    if isinstance(node, Term):
        values = ",".join(f"{v.sign}{v.text}{'*' * v.prefix}" for v in node.values)
        return f"{'@' * node.attribute}{node.field}={values}" if node.field else f"[{values}]"
    if isinstance(node, Not):
        return f"!{told(node.part)}"
    sign = " & " if isinstance(node, All) else " | "
    return f"({sign.join(told(part) for part in node.parts)})"


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a b OR c AND -d", "(([a] & [b]) | ([c] & ![d]))"),
        ("NOT (a OR b) c", "(!([a] | [b]) & [c])"),
        ('"a \\"b\\" \\\\ (c" d*', '([a "b" \\ (c] & [d*])'),
        ("level:error,warn duration:>2s", "(level=error,warn & duration=>2s)"),
        ('name:"a b"*,c* @user.id:x attr."k 1":>=3', "(name=a b*,c* & @user.id=x & @k 1=>=3)"),
        ("http://host:80/a?b=c 12:30:01", "([http://host:80/a?b=c] & [12:30:01])"),
        ("ORacle a-b ANDroid", "([ORacle] & [a-b] & [ANDroid])"),
        ("trace:*", "trace=*"),
        ("  ", "()"),
    ],
)
def test_a_text_is_read_as_a_tree(text: str, tree: str) -> None:
    assert told(parse(text)) == tree


@pytest.mark.parametrize(
    ("signal", "text", "place", "said"),
    [
        ("logs", "a OR", "R", "expected here"),
        ("logs", "OR a", "OR", 'write "OR" in quotes'),
        ("logs", "a AND OR b", "OR", "nothing to join"),
        ("logs", "(a (b)", "(", "no closing parenthesis"),
        ("logs", "a) b", ")", "closes nothing"),
        ("logs", "()", "(", "nothing between the parentheses"),
        ("logs", 'x "abc', '"abc', "no closing quote"),
        ("logs", 'x ""', '""', "nothing between the quotes"),
        ("logs", "a - b", "-", "stands right before it"),
        ("logs", "--flag", "--flag", 'in quotes: "--flag"'),
        ("logs", "level:", "level:", "a value is missing after `level:`"),
        ("logs", "level:error,", "level:error,", "a value is missing"),
        ("logs", "levle:error", "levle", "Did you mean level?"),
        ("logs", "level:eror", "eror", "did you mean error?"),
        ("logs", "stream:std*", "std*", "one of stdout, stderr, otlp, file"),
        ("logs", "tool:x", "tool", "field of spans and traces, not of logs"),
        ("logs", "message:>x", ">x", "has no size"),
        ("logs", "pod:>x", ">x", "has no size"),
        ("logs", "*", "*", "finds everything"),
        ("logs", "a *time", "*time", "at the end alone"),
        ("logs", "ti*me*", "ti*me*", "at the end alone"),
        ("logs", "text:*out", "*out", 'in quotes: "*out"'),
        ("spans", "name:*chat", "*chat", "at the end alone"),
        ("logs", "a attr.:1", "attr.:", "comes the name of an attribute"),
        ("logs", "@user", "@user", "comes `:` and its value"),
        ("logs", '@"a b"', '@"a b"', "comes `:` and its value"),
        ("spans", "level:error", "level", "field of logs, not of spans"),
        ("spans", "duration:>2", ">2", "is not a duration such as"),
        ("spans", "tokens:>many", ">many", "compared with a number"),
        ("spans", "tokens:1e9", "1e9", "compared with a number"),
        ("spans", "error:maybe", "maybe", "true or false"),
        ("spans", "spans:>3", "spans", "field of traces"),
        ("traces", "root:true", "root", "field of spans"),
        ("logs", "x" * (MOST_CHARACTERS + 1), "x", "longer than 2,000 characters"),
        ("logs", "a " * MOST_TERMS + "b", "b", "more than 50 terms"),
        ("logs", "(" * (DEEPEST + 1) + "a", "(", "more than 20 levels"),
        ("logs", "@a:" + "v," * 50 + "v", "@a:" + "v," * 50 + "v", "50 values are most"),
        ("logs", "a\0", "\0", "no text has"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(signal: Signal, text: str, place: str, said: str) -> None:
    with pytest.raises(SearchError) as found:
        bound(text, signal)
    assert text[found.value.start : found.value.end] == place
    assert said in str(found.value)


def test_a_place_is_counted_as_browsers_count() -> None:
    with pytest.raises(SearchError) as found:
        bound("😀 é x:y", "logs")
    assert (found.value.start, found.value.end) == (4, 5)
    assert found.value.at() == {"start": 5, "end": 6}


@example("attr.:1")
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=30).map("".join))
def test_any_text_is_a_query_or_a_mistake_with_its_place(text: str) -> None:
    for signal in FIELDS:
        wrong = mistake(text, signal)
        if wrong is None:
            found = list(terms(parse(text)))
            assert all(text[term.start : term.end].strip() for term in found)
            for live in LIVE[signal]:
                assert search_test(text, (live,))(RECORDS[live]) in {True, False}
            continue
        assert 0 <= wrong.start < wrong.end <= len(text)
        at, units = wrong.at(), len(text.encode("utf-16-le", "surrogatepass")) // 2
        assert 0 <= at["start"] < at["end"] <= units


LIVE: dict[Signal, tuple[LiveSignal, ...]] = {"logs": ("logs",), "spans": ("spans",), "traces": ()}
RECORDS: dict[LiveSignal, Record] = {
    "logs": LogRecord(1, "2026-11-21T10:00:00Z", "error", "a time out"),
    "spans": SpanRecord(1, "1" * 16, "a" * 32, "chat", "2026-11-21T10:00:00Z", None),
}


def mistake(text: str, signal: Signal) -> SearchError | None:
    """What is wrong with a query; None when nothing is."""
    try:
        bound(text, signal)
    except SearchError as error:
        return error
    return None


def test_the_largest_query_is_read_at_once() -> None:
    nested = "(" * DEEPEST + "a" + ")" * DEEPEST
    assert told(parse(nested)) == "[a]"
    assert isinstance(parse("a OR " * (MOST_TERMS - 1) + "b"), AnyOf)
    assert mistake("(-" * 900, "logs") is not None


def test_the_nearest_word_is_near() -> None:
    assert nearest("lvl", ["level", "span"]) is None
    assert nearest("tpye", ["type", "name"]) == "type"
    assert nearest("deploymnet", ["deployment", "model"]) == "deployment"
    assert nearest("zzz", ["level"]) is None


def test_the_page_lists_every_field() -> None:
    text = PAGE.read_text()
    again = "python -m spanyard_gateway.search.docs docs/search.md"
    assert with_table(text) == text, f"make the table anew: {again}"


def test_all_phrases_of_a_query_divide_a_text_once() -> None:
    query = " ".join(f'-"q{n} z" -text:q{n}é' for n in range(MOST_TERMS // 2))
    test = search_test(query, ["logs"])
    before = line_of_words.cache_info().misses
    for n in range(3):
        assert test(LogRecord(1, "2026-11-21T10:00:00Z", "info", f"{n} z y " * 1_000))
    assert line_of_words.cache_info().misses - before == 3


def test_case_is_folded_letter_by_letter() -> None:
    for letters in ("İI", "ΑΣ", "ΣΑΣ Σ", "ẞß", "ǅ", "É\u0301"):
        alone = "".join(low if len(low := one.lower()) == 1 else one for one in letters)
        holds = text_test(Part(f"x{letters}x"))
        assert holds(f"-x{alone}x-"), letters
    assert not text_test(Part("ς"))("Σ")
