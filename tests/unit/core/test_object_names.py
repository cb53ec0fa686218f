"""Object names: what is made parses back to itself, what is foreign is refused."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spanyard_core.errors import BadRecordError
from spanyard_core.object_names import (
    PENDING,
    PROCESSED,
    QUARANTINE,
    ChunkName,
    PlainName,
    check_label,
    check_project,
    ledger_key,
    parse_key,
    writer_hash,
)
from spanyard_core.records import SIGNALS, Signal

LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?", fullmatch=True)
PROJECT = st.builds("{}.{}".format, LABEL, LABEL)
SIGNAL: st.SearchStrategy[Signal] = st.sampled_from(SIGNALS)  # type: ignore[assignment]
SEQ = st.integers(1, 2**63 - 1)
RANGE = st.tuples(SEQ, SEQ).map(lambda p: (min(p), max(p)))
ROOT = st.sampled_from([PENDING, PROCESSED, QUARANTINE])
PLAIN = st.text(string.ascii_letters + string.digits + "_.:+-", min_size=1, max_size=151).filter(
    lambda t: t[0].isalnum()
)
GOOD = "observability/logs/team.shop/20261121T144500Z_" + "0a" * 10 + "-1-9.jsonl.zst"


@given(SIGNAL, PROJECT, st.integers(0, 4 * 10**18), st.text(min_size=1), RANGE, ROOT)
def test_a_chunk_name_parses_back_to_itself(
    signal: Signal, project: str, time_ns: int, writer: str, seqs: tuple[int, int], root: str
) -> None:
    name = ChunkName.of(signal, project, time_ns, writer, *seqs)
    key = name.key(root)
    parsed = parse_key(key)
    assert isinstance(parsed, ChunkName)
    assert parsed.key() == key
    assert parsed.key(PENDING) == name.key()
    assert parsed.writer_hash == writer_hash(writer)
    assert "{" not in key


@given(SIGNAL, PROJECT, PLAIN, ROOT)
def test_a_plain_name_parses_back_and_keeps_its_writer_wherever_it_is(
    signal: Signal, project: str, name: str, root: str
) -> None:
    plain = PlainName(signal, project, name)
    parsed = parse_key(plain.key(root))
    assert isinstance(parsed, PlainName)
    assert parsed.key(PENDING) == plain.key()
    assert parsed.writer == plain.writer


def test_the_writer_of_a_plain_object_differs_by_key() -> None:
    names = [PlainName("logs", "a.b", "x"), PlainName("logs", "a.b", "y")]
    assert len({name.writer for name in names}) == 2
    assert names[0].writer.startswith("plain:")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "observability",
        "observability/",
        GOOD + ".tmp",
        GOOD[:-4] + ".gz",
        "/" + GOOD,
        "other/" + GOOD.split("/", 1)[1],
        GOOD.replace("team.shop", "teamshop"),
        GOOD.replace("team.shop", "Team.shop"),
        GOOD.replace("team.shop", "team.shop.x"),
        GOOD.replace("team.shop", "../shop.x"),
        GOOD.replace("team.shop", "team.-shop"),
        GOOD.replace("team.shop", "a." + "b" * 51),
        GOOD.replace("-1-9.", "-0-9."),
        GOOD.replace("-1-9.", "-9-1."),
        GOOD.replace("-1-9.", "-01-9."),
        GOOD.replace("-1-9.", "-1-99999999999999999999."),
        GOOD.replace("-1-9.", f"-1-{2**63}."),
        GOOD.replace("-1-9.", "-1-9٣."),
        GOOD.replace("2026", "٢٠٢٦"),
        GOOD.replace("0a", "0A"),
        GOOD.replace("20261121T144500Z", "2026-11-21T14:45:00Z"),
        GOOD + "\n",
        "observability/logs/team.shop/.jsonl",
        "observability/logs/team.shop/.hidden.jsonl",
        "observability/logs/team.shop/" + "x" * 152 + ".jsonl",
        "observability/logs/team.shop/{a,b}.jsonl",
        "observability/logs/team.shop/sub/x.jsonl",
        "observability/logs/team.shop/x.jsonl\n",
        "observability/logs/team.shop/é.jsonl",
    ],
)
def test_foreign_names_are_refused(key: str) -> None:
    with pytest.raises(BadRecordError):
        parse_key(key)


@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_a_changed_name_is_refused_or_is_another_valid_name(at: int, character: str) -> None:
    key = GOOD[:at] + character + GOOD[at + 1 :]
    try:
        parsed = parse_key(key)
    except BadRecordError:
        return
    assert parsed.key() == key


def test_an_unknown_signal_is_named() -> None:
    with pytest.raises(BadRecordError, match="unknown signal 'profiles'"):
        parse_key(GOOD.replace("/logs/", "/profiles/"))


def test_a_refusal_quotes_no_more_than_it_must() -> None:
    with pytest.raises(BadRecordError) as caught:
        parse_key("observability/logs/" + "x" * 100_000)
    assert len(str(caught.value)) < 500


@given(LABEL)
def test_labels_are_accepted(label: str) -> None:
    assert check_label(label, "name") == label
    assert check_project(f"{label}.{label}") == f"{label}.{label}"


@given(st.text(max_size=60))
def test_what_is_no_label_is_refused_with_what_is_allowed(text: str) -> None:
    fine = set(string.ascii_lowercase + string.digits + "-")

    def is_label(part: str) -> bool:
        return 0 < len(part) <= 50 and set(part) <= fine and part[0] != "-" and part[-1] != "-"

    assume(not is_label(text))
    assume(not all(map(is_label, text.split(".", 1))))  # "0.0" is a project
    with pytest.raises(BadRecordError, match="at most 50 lower-case"):
        check_label(text, "namespace")
    with pytest.raises(BadRecordError, match=r"namespace\.name"):
        check_project(text)


@given(st.lists(st.integers(0, 10**12 - 1), unique=True))
def test_ledger_keys_sort_by_number(numbers: list[int]) -> None:
    keys = sorted(ledger_key(0, n) for n in numbers)
    assert keys == [ledger_key(0, n) for n in sorted(numbers)]
