"""A local server of folders, a Chromium that reaches nothing else, and a page's complaints."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, Response

ROOT = Path(__file__).resolve().parents[2]
BUILT = Path(os.environ.get("GNUQ_SITE", ROOT / "_build" / "html"))
HOST = "127.0.0.1"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BLANK = (
    '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>Blank</title>'
    '<link rel="icon" href="data:,"></head>'
    '<body style="background: var(--gnuq-paper); color: var(--gnuq-ink)"></body></html>'
)
# Only the local server's address resolves, so no request leaves the machine.
RULES = f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}"
FLAGS = ["--no-proxy-server", RULES]


class Handler(SimpleHTTPRequestHandler):
    """Serves folders under prefixes, and a blank page at the root if no folder is there."""

    protocol_version = "HTTP/1.1"  # keeps the connection for the next file
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
    }

    def __init__(self, folders: Mapping[str, Path], *arguments: object) -> None:
        """Handle one connection; the server hands over the other arguments."""
        self.folders = folders
        super().__init__(*arguments)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        """Return the file of an address: that of the longest prefix."""
        wanted = unquote(urlsplit(path).path)
        for prefix in sorted(self.folders, key=len, reverse=True):
            if wanted.startswith(prefix):
                self.directory = str(self.folders[prefix])
                return super().translate_path("/" + wanted.removeprefix(prefix))
        return str(ROOT / "no such file")

    def do_GET(self) -> None:
        """Answer with the file, or with the blank page."""
        if urlsplit(self.path).path != "/" or "/" in self.folders:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(BLANK)))
        self.end_headers()
        self.wfile.write(BLANK.encode())
        return None

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(folders: Mapping[str, Path]) -> Iterator[str]:
    """Serve folders on a free port of this machine.

    Args:
        folders: Each folder by the prefix of its addresses, with a slash at both ends. Without
            ``"/"`` a blank page is served there.

    Yields:
        The server's address, without a slash at its end.
    """
    with ThreadingHTTPServer((HOST, 0), partial(Handler, folders)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()


def built() -> Path:
    """Return the built website's folder.

    Raises:
        FileNotFoundError: If it is not built.
    """
    if not (BUILT / "index.html").is_file():
        raise FileNotFoundError(f"There is no website in {BUILT}: make book")
    return BUILT


def launch(playwright: Playwright) -> Browser:
    """Start the Chromium that ``CHROMIUM`` names, else the first of `NAMES` on the path.

    Raises:
        FileNotFoundError: If it is not there.
    """
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)]
    path = next(filter(None, found), "")
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"There is no Chromium{' at ' * bool(path)}{path}. Install one (Debian: apt install "
            "chromium), or name one, or Chrome, in the variable CHROMIUM."
        )
    return playwright.chromium.launch(executable_path=path, args=FLAGS)


@dataclass
class Troubles:
    """What went wrong on a page, in sentences, since it was watched."""

    base: str
    errors: list[str] = field(default_factory=list)  # of the console and of scripts
    failures: list[str] = field(default_factory=list)  # requests not answered, or by an error
    strangers: list[str] = field(default_factory=list)  # requests to other hosts, never answered

    def watch(self, page: Page) -> None:
        """Note what happens on the page from now on."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("request", self._request)
        page.on("requestfailed", self._failed)
        page.on("response", self._response)

    def by_kind(self) -> dict[str, list[str]]:
        """Return every trouble, by kind."""
        return {"errors": self.errors, "failures": self.failures, "strangers": self.strangers}

    def all(self) -> list[str]:
        """Return every trouble."""
        return [text for texts in self.by_kind().values() for text in texts]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        address = request.url
        if not address.startswith((f"{self.base}/", "data:", "blob:")):
            self.strangers.append(f"asks another host: {address}")

    def _failed(self, request: Request) -> None:
        self.failures.append(f"failed: {request.url} ({request.failure})")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.failures.append(f"failed: {response.url} (status {response.status})")
