"""The service as people run it: started, asked, stopped, killed, started again."""

import http.client
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import pytest
import requests
from psycopg import sql

from benchmarks.service import Service
from tests.pictures import encoded, textured

IN_ORDER_S = 8.0
"""How long an orderly stop may take."""

SEARCH = "/v3/collections/default/search"
IMAGES = "/v3/collections/default/images"


@dataclass(frozen=True)
class Place:
    """A data folder with a database, which outlives the services that tests start on it."""

    data_dir: Path
    settings: dict[str, str]

    def service(self, **options: int) -> Service:
        return Service(self.data_dir, settings=self.settings, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place where the image `first` was indexed by a service that has been stopped since."""
    url = os.environ.get("DATABASE_URL")
    name = f"imgindex_{uuid.uuid4().hex}"
    settings: dict[str, str] = {}
    if url:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        settings["DATABASE_URL"] = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    made = Place(tmp_path_factory.mktemp("service") / "data", settings)
    with made.service() as service:
        add(service, "first", seed=1)
    yield made
    if url:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def picture(seed: int) -> bytes:
    return encoded(textured(seed), "JPEG", quality=90)


def edited(seed: int) -> bytes:
    return encoded(textured(seed)[::2, ::2], "JPEG", quality=60)


def add(service: Service, image_id: str, *, seed: int) -> None:
    answer = service.session().post(
        service.url(IMAGES), files={"file": picture(seed)}, data={"id": image_id}, timeout=30
    )
    assert answer.status_code == 201, answer.text


def authorization(service: Service) -> str:
    """The header with the development key, for requests that are put together by hand."""
    return str(service.session().headers.get("Authorization", ""))


def found(service: Service, *, seed: int) -> str | None:
    """The id of the first hit for an edited copy."""
    answer = service.session().post(service.url(SEARCH), files={"file": edited(seed)}, timeout=30)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    return results[0]["id"] if results else None


def eventually(condition: Callable[[], bool], *, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def connections_to_every_worker(service: Service) -> dict[int, http.client.HTTPConnection]:
    """An open connection to each web worker; the kernel deals new connections out, so a few are thrown away."""
    workers = service.workers()
    held: dict[int, http.client.HTTPConnection] = {}
    for _ in range(100):
        connection = service.connection()
        assert service.ask("GET", "/ready", over=connection)[0] == 200
        pid = service.worker_of(connection, among=workers)
        assert pid is not None
        if pid in held:
            connection.close()
        held.setdefault(pid, connection)
        if len(held) == len(workers):
            return held
    raise AssertionError(f"of {len(workers)} workers only {list(held)} take connections")


def only_postgres_is_left(service: Service) -> bool:
    return all(process.name() == "postgres" for process in service.processes())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda how: how.name)
def test_every_worker_answers_and_a_signal_stops_everything_in_order(place: Place, how: signal.Signals) -> None:
    new = f"new by {how.name}"
    with place.service() as service:
        assert requests.get(service.url("/ready"), timeout=10).status_code == 200
        assert found(service, seed=1) == "first"
        workers = connections_to_every_worker(service)
        assert len(workers) == 2
        add(service, new, seed=int(how) + 100)
        for connection in workers.values():
            status, answer = service.ask("POST", SEARCH, {"id": new}, over=connection)
            assert status == 200
            assert answer["results"][0]["id"] == new
            connection.close()
        began = time.monotonic()
        assert service.stop(how) == 0, service.output()
        assert time.monotonic() - began < IN_ORDER_S, service.output()
        assert service.processes() == []
        assert "Traceback" not in service.output()


def test_a_killed_worker_is_replaced(place: Place) -> None:
    with place.service() as service:
        victim, *others = service.workers()
        victim.kill()

        def replaced() -> bool:
            workers = {worker.pid for worker in service.workers()}
            return victim.pid not in workers and len(workers) == len(others) + 1

        assert eventually(replaced, within_s=20), service.output()
        for connection in connections_to_every_worker(service).values():
            status, answer = service.ask("POST", SEARCH, {"id": "first"}, over=connection)
            assert (status, answer["results"][0]["id"]) == (200, "first")
            connection.close()
        # The decode process of the dead worker went with it.
        assert eventually(lambda: not _orphans(service), within_s=5), _orphans(service)


def _orphans(service: Service) -> list[psutil.Process]:
    """Processes of the service that no supervisor is above any more, Postgres apart."""
    family = {service.process.pid, *(child.pid for child in psutil.Process(service.process.pid).children(True))}
    return [item for item in service.processes() if item.pid not in family and item.name() != "postgres"]


def test_what_was_acknowledged_survives_the_death_of_every_process(place: Place) -> None:
    service = place.service()
    service.start()
    try:
        for number in range(5):
            add(service, f"survivor {number}", seed=200 + number)
    finally:
        service.kill()
    assert service.processes() == []
    with place.service() as again:
        assert found(again, seed=1) == "first"
        for number in range(5):
            assert found(again, seed=200 + number) == f"survivor {number}"


def test_workers_end_without_their_supervisor_and_leave_the_port_to_the_next(place: Place) -> None:
    service = place.service()
    service.start()
    try:
        service.process.kill()
        service.process.wait(5)
        assert eventually(lambda: only_postgres_is_left(service), within_s=10), service.processes()
        with place.service(port=service.port) as again:
            assert found(again, seed=1) == "first"
            assert again.stop() == 0, again.output()
            assert again.processes() == []
    finally:
        service.close()


def refused(service: Service) -> str:
    """What a service prints that does not start; its exit status is not 0."""
    service.launch()
    try:
        assert service.wait(within_s=30) not in {0, None}
        assert service.processes() == []
        return service.output()
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it runs: {service.output()}") from None
    finally:
        service.close()


def test_bodies_without_a_length_and_beyond_the_limit(place: Place) -> None:
    with place.service() as service:

        def pieces() -> Iterator[bytes]:
            yield b'{"id": '
            yield b'"first"}'

        json = {"Content-Type": "application/json"}
        answer = service.session().post(service.url(SEARCH), data=pieces(), headers=json, timeout=10)
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["id"] == "first"

        endless = (bytes(1 << 20) for _ in range(200))
        answer = service.session().post(service.url(SEARCH), data=endless, headers=json, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (413, "image_too_large")

        for kind in ("application/json", "multipart/form-data; boundary=b"):
            connection = service.connection()
            connection.putrequest("POST", SEARCH)
            connection.putheader("Content-Type", kind)
            connection.putheader("Authorization", authorization(service))
            connection.putheader("Content-Length", str(10**11))
            connection.endheaders()
            assert connection.getresponse().status == 413
            connection.close()


def test_a_form_that_is_cut_off_stores_nothing(place: Place) -> None:
    """The server shows a lost connection as the end of the body: half an id must not pass for a whole one."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + picture(7) + b"\r\n"
    form = head + b'--b\r\nContent-Disposition: form-data; name="id"\r\n\r\nwhole-id\r\n--b--\r\n'
    chunked = b"Transfer-Encoding: chunked"
    length = b"Content-Length: %d" % len(form)
    with place.service() as service:
        before = service.session().get(service.url(IMAGES), timeout=10).json()["results"]
        for cut in (len(head), form.index(b"whole-id") + 5, form.index(b"whole-id") + 8, len(form) - 5):
            for header in (length, chunked):
                with socket.create_connection(("127.0.0.1", service.port)) as client:
                    client.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\n" % IMAGES.encode())
                    client.sendall(b"Authorization: %s\r\n" % authorization(service).encode())
                    client.sendall(b"Content-Type: multipart/form-data; boundary=b\r\n%s\r\n\r\n" % header)
                    body = form[:cut]
                    client.sendall(body if header == length else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
                    client.shutdown(socket.SHUT_WR)
                    client.settimeout(10)
                    answer = client.recv(4096)
                assert not answer or answer.startswith(b"HTTP/1.1 400"), (cut, header, answer)
        assert service.session().get(service.url(IMAGES), timeout=10).json()["results"] == before
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        whole = service.session().post(service.url(IMAGES), data=form, headers=kind, timeout=10)
        assert whole.status_code == 201, whole.text
        service.session().delete(service.url(f"{IMAGES}/whole-id"), timeout=10)


def test_a_host_may_be_a_name_and_no_secret_is_printed(place: Place) -> None:
    service = Service(place.data_dir, settings={**place.settings, "HOST": "localhost"})
    with service:
        assert found(service, seed=1) == "first"
        assert service.stop() == 0
    password = urlsplit(place.settings.get("DATABASE_URL", "")).password
    assert password is None or password not in service.output()


def test_a_host_that_is_not_here_is_named(place: Place) -> None:
    said = refused(Service(place.data_dir, settings={**place.settings, "HOST": "192.0.2.1"}))
    assert "192.0.2.1" in said
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_named(place: Place) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(place.service(port=port))
    assert f"127.0.0.1:{port}" in said
    assert "Traceback" not in said


def test_a_wrong_setting_is_named(place: Place) -> None:
    said = refused(Service(place.data_dir, settings={**place.settings, "PORT": "abc"}))
    assert "PORT must be a whole number from 1 to 65535, not 'abc'." in said
    assert "Traceback" not in said
