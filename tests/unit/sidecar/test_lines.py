"""What lines say of themselves: levels, ids, JSON."""

import pytest

from spanyard_sidecar.lines import MAX_DEPTH, ids_of_text, json_fields, level_of_text

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("", "info"),
        ("plain words", "info"),
        ("INFO started", "info"),
        ("DEBUG x", "debug"),
        ("TRACE x", "debug"),
        ("WARN x", "warn"),
        ("WARNING: x", "warn"),
        ("ERROR x", "error"),
        ("FATAL x", "fatal"),
        ("CRITICAL x", "fatal"),
        ("ERROR:root:message", "error"),
        ("[ERROR] x", "error"),
        ("[error] x", "error"),
        ("[Warning] x", "warn"),
        ("<warn> x", "warn"),
        ("error: cannot open", "error"),
        ("Error: cannot open", "error"),
        ("panic: runtime error: index out of range", "fatal"),
        ("Traceback (most recent call last):", "error"),
        ('Exception in thread "main" java.lang.Error', "error"),
        ("ValueError: no such thing", "error"),
        ("java.lang.IllegalStateException: x", "error"),
        ("2026-11-21 14:45:00,123 ERROR name: x", "error"),
        ("2026-11-21 14:45:00,123 - name - WARNING - x", "warn"),
        ("14:45:00.123 [main] DEBUG com.example.App - x", "debug"),
        ("2026-11-21T14:45:00Z INFO x", "info"),
        ("time=2026-11-21T14:45:00Z level=error msg=x", "error"),
        ('ts=1 level="warn" msg=x', "warn"),
        ("lvl=dbg x", "debug"),
        ("severity=CRITICAL x", "fatal"),
        ("E1121 14:45:00.123456       1 main.go:10] x", "error"),
        ("W1121 14:45:00.123456       1 main.go:10] x", "warn"),
        ("I1121 14:45:00.123456       1 main.go:10] x", "info"),
        ("F1121 14:45:00.123456       1 main.go:10] x", "fatal"),
        ("\x1b[32minfo\x1b[39m: x", "info"),
        ("\x1b[31mERROR\x1b[0m x", "error"),
        ("\x1b[2m2026-11-21T14:45:00Z\x1b[0m \x1b[33m WARN\x1b[0m x", "warn"),
        ("an error occurred, or none: 0 errors", "info"),
        ("the word ERROR stands far behind seven other words ERROR", "error"),
        ("one two three four five six seven ERROR", "info"),
        ("E11 something", "info"),
        ("EABCD something", "info"),
        ("Information about errors", "info"),
        ("http://host:80/ERROR x", "info"),
    ],
)
def test_the_level_of_a_plain_line(line: str, level: str) -> None:
    assert level_of_text(line) == level
    assert level_of_text(line) == level, "and the same from the cache"


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ('{"msg":"x"}', "info"),
        ('{"level":"error"}', "error"),
        ('{"level":"WARN"}', "warn"),
        ('{"level":"Warning"}', "warn"),
        ('{"level":" critical "}', "fatal"),
        ('{"level":10}', "debug"),
        ('{"level":20}', "debug"),
        ('{"level":30}', "info"),
        ('{"level":35}', "info"),
        ('{"level":40}', "warn"),
        ('{"level":50}', "error"),
        ('{"level":60}', "fatal"),
        ('{"level":70}', "fatal"),
        ('{"level":50.0}', "error"),
        ('{"level":"50"}', "error"),
        ('{"level":3}', "info"),
        ('{"level":true}', "info"),
        ('{"level":null}', "info"),
        ('{"level":["error"]}', "info"),
        ('{"level":{"name":"error"}}', "info"),
        ('{"level":"strange","severity":"error"}', "error"),
        ('{"lvl":"fatal"}', "fatal"),
        ('{"severity":"ERROR"}', "error"),
        ('{"severity":17}', "error"),
        ('{"severity":10}', "info"),
        ('{"severity":50}', "error"),
        ('{"severityNumber":1}', "debug"),
        ('{"severityNumber":8}', "debug"),
        ('{"severityNumber":9}', "info"),
        ('{"severityNumber":13}', "warn"),
        ('{"severityNumber":24}', "fatal"),
        ('{"severityText":"INFO2"}', "info"),
        ('{"severityText":"ERROR4"}', "error"),
        ('{"log.level":"warn"}', "warn"),
        ('{"levelname":"CRITICAL"}', "fatal"),
        ('{"level":1e300}', "info"),
        ('{"level":-5}', "info"),
    ],
)
def test_the_level_of_a_json_line(line: str, level: str) -> None:
    fields = json_fields(line)
    assert fields is not None
    assert fields[1] == level


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"msg":"a","message":"b"}', "a"),
        ('{"message":"b","event":"c"}', "b"),
        ('{"event":"c","body":"d"}', "c"),
        ('{"body":"d"}', "d"),
        ('{"msg":1,"message":"b"}', "b"),
        ('{"msg":null,"event":{"a":1},"body":"d"}', "d"),
        ('{"msg":""}', ""),
        ('{"msg":"\\u00e4\\n\\u0000"}', "ä\n\0"),
        ('{"other":1}', '{"other":1}'),
        ("{}", "{}"),
        ('{"msg":"first","msg":"last"}', "last"),
    ],
)
def test_the_message_of_a_json_line(line: str, message: str) -> None:
    fields = json_fields(line)
    assert fields is not None
    assert fields[0] == message


@pytest.mark.parametrize(
    "line",
    [
        "{", "{}x", "{} {}", "{'a':1}", '{"a":1,}', '{"a":NaN}', '{"a":Infinity}', '{"a":1e999}',
        '{"a":{"b":[-1e400]}}', '{"a":1.7976931348623159e308}', '{"a":"\x01"}', '{"a":"\x00"}',
        '{"a":"\\x"}', '{"a":"\\ud800"}', '{"a":"\\ud800 and more text"}', '{"a":01}', '{"a":+1}',
        '{"a":tru}', '{"a":"b', "{1:2}", '{"a":1}}', '{"a":' + "9" * 5000 + "}",
        '{"a":' + "[" * 5000 + "]" * 5000 + "}", '{"a":' + "[" * 200 + "]" * 200 + "}",
        '{"a":' * 150 + "1" + "}" * 150,
    ],
)  # fmt: skip
def test_what_is_no_sound_json_is_plain(line: str) -> None:
    assert json_fields(line) is None


def test_the_depth_allowed_does_not_depend_on_who_asks() -> None:
    def nested(depth: int) -> str:
        return '{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + ',"msg":"x"}'

    def asked_from(frames: int, line: str) -> bool:
        return asked_from(frames - 1, line) if frames else json_fields(line) is not None

    for frames in (0, 300, 600):
        assert asked_from(frames, nested(MAX_DEPTH))
        assert not asked_from(frames, nested(MAX_DEPTH + 1))


def test_wide_is_not_deep() -> None:
    assert json_fields('{"msg":"x","a":[' + ",".join(["{}"] * 1000) + "]}") is not None


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        (f'{{"trace_id":"{TRACE}","span_id":"{SPAN}"}}', (TRACE, SPAN)),
        (f'{{"traceId":"{TRACE.upper()}","spanId":"{SPAN.upper()}"}}', (TRACE, SPAN)),
        (f'{{"trace":"{TRACE}"}}', (TRACE, "")),
        (f'{{"trace.id":"{TRACE}","span.id":"{SPAN}"}}', (TRACE, SPAN)),
        (f'{{"otelTraceID":"{TRACE}","otelSpanID":"{SPAN}"}}', (TRACE, SPAN)),
        (f'{{"traceparent":"00-{TRACE}-{SPAN}-01"}}', (TRACE, SPAN)),
        (f'{{"trace_id":"short","trace":"{TRACE}"}}', (TRACE, "")),
        (f'{{"trace_id":"{TRACE}","span_id":7}}', (TRACE, "")),
        (f'{{"trace_id":"{"0" * 32}","span_id":"{SPAN}"}}', ("", "")),
        (f'{{"trace_id":"{TRACE}","span_id":"{"0" * 16}"}}', (TRACE, "")),
        ('{"trace_id":"zz7651916cd43dd8448eb211c80319zz"}', ("", "")),
        ('{"trace_id":["x"],"trace":{"id":1}}', ("", "")),
        (f'{{"span_id":"{SPAN}"}}', ("", "")),
        ('{"traceparent":"00-zz-1-01"}', ("", "")),
    ],
)
def test_ids_of_a_json_line(line: str, ids: tuple[str, str]) -> None:
    fields = json_fields(line)
    assert fields is not None
    assert fields[2:] == ids


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("no ids", ("", "")),
        (f"x trace_id={TRACE} span_id={SPAN} y", (TRACE, SPAN)),
        (f"traceId: {TRACE.upper()}, spanId: {SPAN}", (TRACE, SPAN)),
        (f'trace-id="{TRACE}"', (TRACE, "")),
        (f"[trace_id={TRACE}]", (TRACE, "")),
        (f"traceparent=00-{TRACE}-{SPAN}-01", (TRACE, SPAN)),
        (f"trace_id={TRACE}ff", ("", "")),
        (f"backtrace_id={TRACE}", ("", "")),
        ("trace_id=1234", ("", "")),
        (f"trace_id={'0' * 32}", ("", "")),
        ("Traceback", ("", "")),
    ],
)
def test_ids_of_a_plain_line(line: str, ids: tuple[str, str]) -> None:
    assert ids_of_text(line) == ids
