"""What code in a pod may try with what its pod has; one line of JSON per attempt: name, status.

Standard library only. The attempts come as JSON on standard input: a list of
`{name, method, url, headers, body, put}`; `put` is the body for the address that the answer signs.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request


def ask(method: str, url: str, headers: dict[str, str], body: bytes | None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(1 << 16)
    except OSError as error:
        return 0, str(error).encode()


def tell(name: str, status: int, said: bytes) -> None:
    text = said.decode(errors="replace")[:2000]
    print(json.dumps({"name": name, "status": status, "said": text}), flush=True)


def main() -> None:
    token = ""
    place = os.environ.get("TOKEN_FILE", "")
    if place:
        with open(place, encoding="utf-8") as file:
            token = file.read().strip()
    for one in json.load(sys.stdin):
        headers = {"Content-Type": "application/json", **one.get("headers", {})}
        if one.get("with_token", True) and token:
            headers["Authorization"] = f"Bearer {token}"
        body = one.get("body")
        status, said = ask(
            one["method"],
            one["url"],
            headers,
            json.dumps(body).encode() if body is not None else None,
        )
        tell(one["name"], status, said)
        for what, data in (one.get("put") or {}).items():
            if status != 200:
                break
            signed = json.loads(said)
            url = signed["url"].replace(*one["instead"]) if what == "elsewhere" else signed["url"]
            tell(
                f"{one['name']}: {what}",
                *ask("PUT", url, signed["headers"], base64.b64decode(data)),
            )


if __name__ == "__main__":
    main()
