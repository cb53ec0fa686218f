"""A program of Spanyard at another time: its wall clock is set forward, and stands by that.

python -m tests.fakes.later SECONDS MODULE FLAG…
"""

import runpy
import sys
import time

from spanyard_core import clock


def main() -> None:
    offset_ns = int(float(sys.argv[1]) * 1e9)
    module = sys.argv[2]
    clock.SystemClock.time_ns = lambda self: time.time_ns() + offset_ns  # type: ignore[method-assign]
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
