"""A folder on the loopback interface, with the two headers that a page needs for threads and exact clocks."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def open_server(folder: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the files in a folder, on 127.0.0.1; `serve_forever` runs it, `server_port` is its port.

    Args:
        port: 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    return ThreadingHTTPServer(("127.0.0.1", port), partial(_Files, root=Path(folder).resolve()))


class _Files(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012  as the base class has it
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *args: Any, root: Path) -> None:
        self.root = root
        super().__init__(*args, directory=str(root))

    def send_head(self) -> Any:
        """Files of the folder alone: no links that lead out of it, no lists of folders."""
        path = Path(self.translate_path(self.path)).resolve()
        path = path / "index.html" if path.is_dir() else path
        if not path.is_relative_to(self.root) or not path.is_file():
            self.send_error(404)
            return None
        return super().send_head()

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing: the terminal is for what was asked."""
