"""As much of curl as our pages use, for machines that have none: -X, -d, --json, -H, and a URL.

An answer of 400 and above is printed and is exit code 22, as with `curl --fail-with-body`.
"""

import sys
import urllib.error
import urllib.request


def main(arguments: list[str]) -> int:
    """Ask, print the body."""
    method, url, body, headers = "", "", None, {}
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        match argument:
            case "-X" | "--request":
                method = waiting.pop(0)
            case "-d" | "--data":
                body = waiting.pop(0).encode()
                headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
            case "--json":
                body = waiting.pop(0).encode()
                headers["Content-Type"] = "application/json"
            case "-H" | "--header":
                name, _, value = waiting.pop(0).partition(":")
                headers[name.strip()] = value.strip()
            case "-s" | "-S" | "-sS" | "-f" | "--fail-with-body":
                pass
            case _ if argument.startswith("http"):
                url = argument
            case _:
                print(f"small curl: {argument!r} is not known", file=sys.stderr)
                return 2
    request = urllib.request.Request(url, data=body, headers=headers, method=method or None)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            print(response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            print(error.read().decode())
        print(f"curl: (22) the requested URL returned error: {error.code}", file=sys.stderr)
        return 22
    except OSError as error:
        print(f"curl: (7) {error}", file=sys.stderr)
        return 7
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
