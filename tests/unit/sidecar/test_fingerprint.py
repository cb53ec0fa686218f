"""What makes two files the same."""

from hypothesis import given
from hypothesis import strategies as st

from spanyard_sidecar.fingerprint import HEAD_BYTES, begins_as, fingerprint, head_of


def test_the_first_line_is_enough() -> None:
    assert head_of(b"one\ntwo") == b"one\n"


def test_half_a_short_line_is_not() -> None:
    assert head_of(b"") == b""
    assert head_of(b"x" * (HEAD_BYTES - 1)) == b""


def test_of_a_long_line_the_beginning_is() -> None:
    assert head_of(b"x" * 1000 + b"\n") == b"x" * HEAD_BYTES
    assert head_of(b"x" * HEAD_BYTES) == b"x" * HEAD_BYTES


def test_the_text_form_is_stored_so_it_must_never_change() -> None:
    assert fingerprint("uid/server/0", b"one\n") == "4:87c194cfd0140ce4761bb3f44d33f082"


def test_the_same_bytes_of_another_writer_are_another_file() -> None:
    assert fingerprint("uid/server/0", b"one\n") != fingerprint("uid/server/1", b"one\n")


@given(st.binary(max_size=600), st.binary(max_size=600))
def test_growing_never_changes_it(data: bytes, more: bytes) -> None:
    head = head_of(data)
    if head:
        assert head_of(data + more) == head
        assert begins_as((data + more)[:HEAD_BYTES], "salt", fingerprint("salt", head))


def test_another_beginning_is_seen() -> None:
    known = fingerprint("salt", b"one\n")
    assert begins_as(b"one\ntwo\n", "salt", known)
    assert not begins_as(b"two\none\n", "salt", known)
    assert not begins_as(b"on", "salt", known)
