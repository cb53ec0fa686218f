"""`spanyard-gateway`: where it begins."""

from spanyard_core.end_signals import hold


def main() -> None:
    """The console script; leaves by SystemExit."""
    hold()  # until the process listens, which takes a moment to load
    from spanyard_gateway.process import main as process

    process()


if __name__ == "__main__":
    main()
