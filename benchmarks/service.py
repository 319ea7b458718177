"""The whole service in processes of its own, for benchmarks and end-to-end tests.

    with Service(folder / "data") as service:
        requests.get(service.url("/ready"), timeout=10)

It is `manage.py serve` as `make run` starts it, on a free loopback port, with a data folder of its own.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import psutil
import requests

ROOT = Path(__file__).resolve().parent.parent

_PATIENCE_S = 60.0


class ServiceDidNotStart(Exception):
    """The service ended or stayed unready; the message ends with what it printed."""


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(data_dir: Path, *, port: int, settings: Mapping[str, str]) -> dict[str, str]:
    """The variables of a service: this process's own, less what configures another imgindex, with `settings`."""
    # The embedded Postgres is what `make run` uses; a caller who wants another one says so in `settings`.
    foreign = {"DATABASE_URL", "IMGINDEX_TEST_DATA_DIR", "OPEN_ACCESS", "WEB_WORKERS", "FETCH_ALLOW"}
    return {
        **{name: value for name, value in os.environ.items() if name not in foreign},
        "DJANGO_SETTINGS_MODULE": "imgindex.settings",
        "DATA_DIR": str(data_dir),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        **settings,
    }


class Service:
    """A running service; as a context manager it is started, awaited and stopped in order."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        command: tuple[str, ...] = (sys.executable, "manage.py", "serve"),
        folder: Path = ROOT,
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self._command = command
        self._folder = folder
        self._environment = environment(data_dir, port=self.port, settings=settings or {})
        self._log = data_dir.with_name(f"{data_dir.name}.log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- life

    def launch(self) -> None:
        """Start the process and return at once."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal reaches the benchmark alone, which then stops the service in order.
                start_new_session=True,
            )

    def start(self, *, within_s: float = _PATIENCE_S) -> None:
        """Start it and wait until it is ready; raises ServiceDidNotStart, and then nothing of it is left."""
        self.launch()
        try:
            self.wait_ready(within_s=within_s)
        except BaseException:
            self.close()
            raise

    def wait_ready(self, *, within_s: float = _PATIENCE_S) -> None:
        """Return once /ready answers 200; raises ServiceDidNotStart."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServiceDidNotStart(f"The service ended with {self.process.returncode}:\n{self.output()}")
            try:
                if requests.get(self.url("/ready"), timeout=5).status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.05)
        raise ServiceDidNotStart(f"The service was not ready after {within_s:.0f} s:\n{self.output()}")

    def wait(self, *, within_s: float) -> int:
        """The exit status; raises subprocess.TimeoutExpired where the process lives on."""
        return self.process.wait(within_s)

    def stop(self, how: signal.Signals = signal.SIGTERM, *, within_s: float = 30.0) -> int:
        """Ask it to stop, and return its exit status; raises subprocess.TimeoutExpired."""
        self.process.send_signal(how)
        return self.wait(within_s=within_s)

    def kill(self) -> None:
        """SIGKILL every process of it at once, Postgres included."""
        # One that was born while the others died is met in the next round.
        for _ in range(20):
            living = self.processes()
            if not living:
                break
            for process in living:
                with suppress(psutil.NoSuchProcess):  # gone with its parent
                    process.kill()
            psutil.wait_procs(living, timeout=5)
        self.process.wait(5)

    def close(self) -> None:
        """Stop it if it runs; whatever does not go in order is killed."""
        if self._process is None:
            return
        try:
            if self._process.poll() is None:
                self.stop()
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    # --- what it is made of

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor."""
        if self._process is None:
            raise RuntimeError("The service was not started.")
        return self._process

    def output(self) -> str:
        """What it printed so far."""
        return self._log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """All living processes that were started for this data folder, or work in it, as Postgres does."""
        return processes_of(self.data_dir)

    def workers(self) -> list[psutil.Process]:
        """The web workers: the children of the supervisor that listen on the port."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if self.port in _listening(child)]

    def worker_of(
        self, connection: http.client.HTTPConnection, *, among: list[psutil.Process] | None = None
    ) -> int | None:
        """The pid of the web worker at the other end of an open connection; `among` saves finding the workers."""
        port = connection.sock.getsockname()[1]
        for worker in self.workers() if among is None else among:
            try:
                peers = {item.raddr.port for item in worker.net_connections("tcp") if item.raddr}
            except psutil.NoSuchProcess:
                continue
            if port in peers:
                return worker.pid
        return None

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time so far, by part: web, decode (with its children) and postgres."""
        spent = {"web": 0.0, "decode": 0.0, "postgres": 0.0}
        workers = {worker.pid for worker in self.workers()}
        for process in self.processes():
            try:
                times = process.cpu_times()
                part = "web" if process.pid in workers else _part(process)
            except psutil.NoSuchProcess:
                continue
            if part is not None:
                spent[part] += times.user + times.system
        return spent

    # --- talking to it

    def url(self, path: str) -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def key(self) -> str:
        """The development key that the service made in its data folder."""
        return (self.data_dir / "development_key").read_text().strip()

    def session(self) -> requests.Session:
        """A client that sends the key and keeps its connection."""
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {self.key}"
        return session

    def connection(self, *, timeout_s: float = 30.0) -> http.client.HTTPConnection:
        """A new connection, so that any of the web workers may take it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def ask(
        self, method: str, path: str, body: Any = None, *, over: http.client.HTTPConnection | None = None
    ) -> tuple[int, Any]:
        """Send JSON, over a new connection unless one is given; the status and the answer's JSON."""
        connection = over or self.connection()
        try:
            connection.request(
                method,
                path,
                body=None if body is None else orjson.dumps(body),
                headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
            )
            answer = connection.getresponse()
            return answer.status, orjson.loads(answer.read())
        finally:
            if over is None:
                connection.close()


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """All living processes that were started with this DATA_DIR, or whose working folder lies in it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            inside = Path(process.cwd()).is_relative_to(data_dir.resolve())
            if inside or process.environ().get("DATA_DIR") == str(data_dir):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or somebody else's
    return found


def _listening(process: psutil.Process) -> set[int]:
    try:
        return {item.laddr.port for item in process.net_connections("tcp") if item.status == psutil.CONN_LISTEN}
    except psutil.Error:
        return set()


def _part(process: psutil.Process) -> str | None:
    if process.name() == "postgres":
        return "postgres"
    return "decode" if "forkserver" in " ".join(process.cmdline()) else None
