"""What all tests share."""

import signal


def pytest_configure() -> None:
    """Ctrl-C means the same everywhere: a suite started in the background inherits that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
