"""Teacher and student side by side on a page that runs them in the browser, by onnxruntime-web."""

from ganshrink.browser.page import write_page
from ganshrink.browser.server import open_server

__all__ = ["open_server", "write_page"]
