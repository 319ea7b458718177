"""A real browser for end-to-end tests: Playwright with the system's Chromium.

    def test_it(live_server, browser):
        browser.run(lambda page: page.goto(live_server.url))

Playwright's synchronous interface keeps an event loop in its thread, and Django refuses database calls in a thread
that has one. So the browser lives in a thread of its own: what `run` is given runs there, and the test's own thread
stays free to look into the database.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Playwright, Request, sync_playwright

T = TypeVar("T")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Browser:
    """One page in one browser, with a record of what went wrong on it and of the hosts that it asked."""

    def __init__(self, executable: str) -> None:
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="browser")
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None
        self._thread.submit(self._start, executable).result()

    def run(self, steps: Callable[[Page], T]) -> T:
        """Do the steps with the page and give their result; what they raise is raised here."""
        return self._thread.submit(lambda: steps(self._page)).result()

    def close(self) -> None:
        """End the browser."""
        self._thread.submit(self._stop).result()
        self._thread.shutdown()

    def _start(self, executable: str) -> None:
        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(executable_path=executable, args=FLAGS)
        context = self._chromium.new_context()
        context.set_default_timeout(20_000)
        self._page = self._watched(context)

    def _watched(self, context: BrowserContext) -> Page:
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", self._request)
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"}:
            self.hosts.add(parts.netloc)

    def _stop(self) -> None:
        if self._chromium is not None:
            self._chromium.close()
        if self._playwright is not None:
            self._playwright.stop()


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A fresh browser; the test is skipped where there is no Chromium."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no browser: there is no `chromium` on the PATH (Debian: apt-get install chromium)")
    browser = Browser(executable)
    yield browser
    browser.close()
