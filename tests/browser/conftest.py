"""One Chromium for the tests of a file."""

from collections.abc import Iterator

import pytest
from chromium import BINARY, Tab, chromium

from ganshrink.browser.runtime import runtime_files


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    if BINARY is None:
        pytest.skip("no Chromium is installed")
    try:
        runtime_files()
    except (ConnectionError, FileNotFoundError) as error:
        pytest.skip(str(error))
    with chromium() as opened:
        yield opened
