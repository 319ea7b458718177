"""The embedded Postgres, on real servers: who starts it, who stops it, and what it survives."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from imgindex import postgres
from imgindex.postgres import (
    ClusterOfAnotherVersion,
    EmbeddedPostgres,
    NoUnprivilegedUser,
    PostgresDidNotStart,
)
from imgindex.postgres import cluster as cluster_module
from imgindex.postgres.programs import address, run

REPOSITORY = Path(__file__).parents[2]
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root can become another user")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="a matter of Linux")

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
    "PYTHONDONTWRITEBYTECODE": "1",
}

# A process that uses the server until its standard input is closed.
USER = """
import sys
from pathlib import Path
from imgindex.postgres import EmbeddedPostgres
EmbeddedPostgres(Path(sys.argv[1])).ensure_started()
print("up", flush=True)
sys.stdin.read()
"""


def connect(server: EmbeddedPostgres, **other: Any) -> psycopg.Connection:
    where = server.connection()
    known = {"host": where.host, "port": where.port, "user": where.user, "dbname": where.dbname}
    return psycopg.connect(**{**known, **other}, autocommit=True)


def value(server: EmbeddedPostgres, *queries: str) -> Any:
    """The first value that the last query gives."""
    with connect(server) as connection:
        for query in queries:
            cursor = connection.execute(query)
        row = cursor.fetchone()
        assert row
        return row[0]


def postmaster(server: EmbeddedPostgres) -> int:
    return int((server.cluster / "postmaster.pid").read_text().split()[0])


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until_unready(server: EmbeddedPostgres) -> None:
    """Return when the server has noticed that a backend died, or has recovered from it already."""
    deadline = time.monotonic() + 1
    while server._accepts_connections() and time.monotonic() < deadline:
        pass


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not runs(pid)


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts processes that end with the test."""
    started: list[subprocess.Popen] = []

    def start(command: list[str], **options: Any) -> subprocess.Popen:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=ENVIRONMENT, cwd="/", **{**pipes, **options}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


@pytest.fixture
def user_of(start: Callable[..., subprocess.Popen]) -> Callable[[EmbeddedPostgres], subprocess.Popen]:
    """Starts another process that uses a server, and returns when it does."""

    def user_of(server: EmbeddedPostgres) -> subprocess.Popen:
        process = start(python(USER, server.data_dir))
        assert process.stdout.readline() == "up\n"
        return process

    return user_of


def remove(folder: Path) -> None:
    for pid_file in folder.rglob("postmaster.pid"):
        pid = int(pid_file.read_text().split()[0])
        if runs(pid) and psutil.Process(pid).name() == "postgres":
            os.kill(pid, signal.SIGQUIT)
            assert gone(pid)
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that only its owner may enter, as in a clone under /root."""
    path = Path(tempfile.mkdtemp(prefix="pg-"))
    yield path
    remove(path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A data folder with a cluster, made once; each test finds its server stopped."""
    path = Path(tempfile.mkdtemp(prefix="pg-"))
    server = EmbeddedPostgres(path)
    server.ensure_started()
    server.release()
    yield path
    remove(path)


@pytest.fixture
def server(cluster: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(cluster)
    yield server
    if (cluster / "postgres" / "postmaster.pid").exists():
        server.ensure_started()
        server.release()
    assert not (cluster / "postgres" / "postmaster.pid").exists()


# --- start


def test_first_start_makes_a_durable_utf8_database_on_a_private_socket(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "new" / "data")
    half = server.data_dir / "postgres.new-half"  # as a killed set-up leaves it
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    where = server.connection()
    server.ensure_started()
    assert not half.exists()
    assert server.connection() == where
    assert value(server, "SELECT current_setting('server_version_num')::int / 10000") == postgres.MAJOR
    wanted = {
        "server_encoding": "UTF8",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "max_connections": "200",
        "shared_buffers": "128MB",
        "idle_in_transaction_session_timeout": "1min",
        "data_checksums": "on",
    }
    with connect(server) as connection:
        for name, expected in wanted.items():
            assert connection.execute(f"SHOW {name}").fetchone() == (expected,), name
        assert connection.execute("SELECT upper('é'), 'Z' < 'a'").fetchone() == ("É", True)
    assert server.cluster.stat().st_mode & 0o777 == 0o700
    server.release()
    assert not server.in_use


def test_a_restart_keeps_rows(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    value(server, "CREATE TABLE kept AS SELECT 1 AS n", "SELECT 1")
    first = postmaster(server)
    server.release()
    assert gone(first)
    server.ensure_started()
    assert value(server, "SELECT n FROM kept") == 1


def test_a_second_call_changes_nothing(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    first = postmaster(server)
    server.ensure_started()
    another = EmbeddedPostgres(server.data_dir)
    another.ensure_started()
    assert postmaster(server) == first
    another.release()
    assert runs(first)


def test_eight_processes_at_once_on_an_empty_folder(folder: Path, start: Callable[..., subprocess.Popen]) -> None:
    server = EmbeddedPostgres(folder)
    users = [start(python(USER, folder)) for _ in range(8)]
    assert [user.stdout.readline() for user in users] == ["up\n"] * 8
    pid = postmaster(server)
    assert (server.cluster / "postgres.log").read_text().count("starting PostgreSQL") == 1
    for user in users:
        user.stdin.close()
    assert [user.wait(20) for user in users] == [0] * 8
    assert gone(pid)


def test_a_path_too_long_for_a_socket_address_and_special_to_shells(server: EmbeddedPostgres, folder: Path) -> None:
    moved = EmbeddedPostgres(folder / ("long" * 30) / 'a b$c`d"e')
    moved.data_dir.mkdir(parents=True)
    server.cluster.rename(moved.cluster)
    link = Path(moved.connection().host)
    assert len(str(link)) < 80
    moved.ensure_started()
    assert value(moved, "SELECT 1") == 1
    assert link.parent.stat().st_mode & 0o077 == 0
    moved.release()
    link.unlink()
    moved.cluster.rename(server.cluster)


def test_a_short_path_that_others_could_have_made_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_SHORT_PATHS", folder)
    squatted = folder / f"imgindex-{os.geteuid()}"
    squatted.mkdir()
    squatted.chmod(0o777)
    with pytest.raises(PostgresDidNotStart, match="cannot be trusted"):
        EmbeddedPostgres(folder / ("long" * 30)).ensure_started()


# --- refusals, each naming its fix


def test_a_cluster_of_another_version(server: EmbeddedPostgres) -> None:
    (server.cluster / "PG_VERSION").write_text("17\n")
    with pytest.raises(ClusterOfAnotherVersion, match=r"written by Postgres 17.*pg_dump"):
        server.ensure_started()
    (server.cluster / "PG_VERSION").write_text("18\n")


def test_a_folder_in_the_way(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "letter").touch()
    with pytest.raises(PostgresDidNotStart, match="in the way"):
        EmbeddedPostgres(folder).ensure_started()


def test_a_file_for_a_data_folder(folder: Path) -> None:
    (folder / "data").touch()
    with pytest.raises(PostgresDidNotStart, match="Set DATA_DIR"):
        EmbeddedPostgres(folder / "data").ensure_started()


def test_a_broken_cluster_shows_its_log(server: EmbeddedPostgres) -> None:
    control = server.cluster / "global" / "pg_control"
    control.rename(control.with_suffix(".away"))
    with pytest.raises(PostgresDidNotStart, match=r"(?s)could not find the database system.*pg_control"):
        server.ensure_started()
    control.with_suffix(".away").rename(control)


# --- stop


def test_the_last_user_stops_it_and_not_the_first(
    server: EmbeddedPostgres, user_of: Callable[[EmbeddedPostgres], subprocess.Popen]
) -> None:
    first, second = user_of(server), user_of(server)
    pid = postmaster(server)
    first.stdin.close()
    assert first.wait(20) == 0
    assert runs(pid)
    second.stdin.close()
    assert second.wait(20) == 0
    assert gone(pid)


def test_children_hold_no_lock(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    pid = postmaster(server)
    server.release()
    assert gone(pid)
    child.kill()
    child.wait()


def test_a_forked_child_leaves_the_server_to_its_parent(
    server: EmbeddedPostgres, start: Callable[..., subprocess.Popen]
) -> None:
    forking = """
import os, sys, time
from pathlib import Path
from imgindex.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.ensure_started()
if os.fork() == 0:
    sys.exit()  # with its atexit functions
os.wait()
print("up" if server._postmaster() else "gone", flush=True)
idle = os.fork()
if idle == 0:
    time.sleep(60)
server.release()  # an idle child is no user
print("up" if server._postmaster() else "gone", flush=True)
os.kill(idle, 9)
os.wait()
server.ensure_started()
if os.fork() == 0:
    server.ensure_started()  # this one is
    print("up", flush=True)
    sys.stdin.read()
    sys.exit()
"""
    parent = start(python(forking, server.data_dir))
    assert [parent.stdout.readline() for _ in range(3)] == ["up\n", "gone\n", "up\n"]
    assert parent.wait(20) == 0
    pid = postmaster(server)
    assert runs(pid)
    parent.stdin.close()
    assert gone(pid)


def test_a_terminal_cannot_interrupt_it(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    assert os.getsid(postmaster(server)) != os.getsid(0)
    assert os.getpgid(postmaster(server)) != os.getpgid(0)


# --- recovery


def test_a_stale_pid_file_naming_a_living_stranger(server: EmbeddedPostgres) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    (server.cluster / "postmaster.pid").write_text(f"{stranger.pid}\n{server.cluster}\n0\n5432\n.\n\n0 0\nready\n")
    server.ensure_started()
    assert value(server, "SELECT 1") == 1
    server.release()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_stale_pid_file_naming_the_server_of_another_cluster(server: EmbeddedPostgres, folder: Path) -> None:
    shutil.copytree(server.cluster, folder / "postgres")
    other = EmbeddedPostgres(folder)
    other.ensure_started()
    shutil.copy(other.cluster / "postmaster.pid", server.cluster)
    server.ensure_started()
    assert postmaster(server) != postmaster(other)
    server.release()
    assert value(other, "SELECT 1") == 1
    other.release()


@pytest.mark.parametrize("content", ["", "nonsense", "999999999999\n"])
def test_a_spoilt_pid_file(server: EmbeddedPostgres, content: str) -> None:
    (server.cluster / "postmaster.pid").write_text(content)
    server.ensure_started()
    assert value(server, "SELECT 1") == 1


def test_kill_9_of_the_postmaster_loses_no_committed_row(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    value(server, "CREATE TABLE rows (n int)", "INSERT INTO rows VALUES (7) RETURNING n")
    first = postmaster(server)
    os.kill(first, signal.SIGKILL)
    server.ensure_started()  # its pid file names a dead process now, or a zombie
    assert postmaster(server) != first
    assert value(server, "SELECT n FROM rows") == 7


def test_kill_9_of_all_users_leaves_it_to_the_next(
    server: EmbeddedPostgres, user_of: Callable[[EmbeddedPostgres], subprocess.Popen]
) -> None:
    users = [user_of(server), user_of(server)]
    pid = postmaster(server)
    for user in users:
        user.kill()
        user.wait()
    assert runs(pid)
    next_user = user_of(server)
    assert postmaster(server) == pid
    next_user.stdin.close()
    assert next_user.wait(20) == 0
    assert gone(pid)


def test_kill_9_of_everything(
    server: EmbeddedPostgres, user_of: Callable[[EmbeddedPostgres], subprocess.Popen]
) -> None:
    user = user_of(server)
    first = psutil.Process(postmaster(server))
    for process in [user, first, *first.children()]:
        process.kill()
    server.ensure_started()
    assert value(server, "SELECT 1") == 1


@pytest.mark.parametrize("by_hand", [False, True], ids=["ours", "started by hand"])
def test_it_waits_for_backends_that_outlive_the_postmaster(server: EmbeddedPostgres, by_hand: bool) -> None:
    if by_hand:
        where = address(server.cluster)
        start = ("pg_ctl", "start", "-w", "-D", where, "-l", f"{where}/postgres.log")
        assert run(*start, user=server._owner(), cwd=server.cluster).returncode == 0
    else:
        server.ensure_started()
    connection = connect(server)
    backend = connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)  # so that it cannot notice
    os.kill(postmaster(server), signal.SIGKILL)
    threading.Timer(0.5, os.kill, (backend, signal.SIGKILL)).start()
    began = time.monotonic()
    server.ensure_started()
    assert time.monotonic() - began > 0.4
    assert value(server, "SELECT 1") == 1
    connection.close()


def test_kill_9_of_a_backend_makes_it_unready_for_a_moment(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    value(server, "CREATE TABLE big AS SELECT generate_series(1, 100000)", "SELECT 1")
    connection = connect(server)
    os.kill(connection.info.backend_pid, signal.SIGKILL)
    until_unready(server)
    server.ensure_started()
    assert value(server, "SELECT 1") == 1
    connection.close()


def test_a_stop_amid_the_recovery_from_a_killed_backend(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_FAST_STOP_S", 1)  # such a stop can hang
    server.ensure_started()
    connection = connect(server)
    os.kill(connection.info.backend_pid, signal.SIGKILL)
    until_unready(server)
    pid = postmaster(server)
    server.release()
    assert gone(pid)
    connection.close()


def test_a_shutdown_that_waits_for_clients_is_cut_short(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    connection = connect(server)
    first = postmaster(server)
    os.kill(first, signal.SIGTERM)
    time.sleep(0.1)
    assert runs(first)
    server.ensure_started()
    assert value(server, "SELECT 1") == 1
    connection.close()


def test_a_removed_socket_is_made_again(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    (server.cluster / ".s.PGSQL.5432").unlink()
    server.ensure_started()
    assert value(server, "SELECT 1") == 1


def test_the_log_is_bounded(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_LOG_LIMIT", 10)
    server.ensure_started()
    server.release()
    server.ensure_started()
    assert (server.cluster / "postgres.log").read_text().count("starting PostgreSQL") == 1


# --- other users; the interpreter of a clone under /root is closed to them, so they import first and drop then

AS_USER = """
import os, pwd, sys, tempfile
from pathlib import Path
import psycopg, psutil
from imgindex import postgres
from imgindex.postgres import EmbeddedPostgres
user = pwd.getpwnam(sys.argv[2])
os.environ["HOME"] = sys.argv[1]
os.chdir(sys.argv[1])
os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
if not os.access(postgres.programs(user) / "initdb", os.X_OK):
    sys.exit(77)
"""


def as_user(code: str, folder: Path, name: str) -> str:
    command = python(AS_USER + code, folder, name)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77:
        pytest.skip(f"{name} may not read the virtual environment")
    assert done.returncode == 0, done.stderr
    return done.stdout


ONCE = """
server = EmbeddedPostgres(Path(sys.argv[1]))
server.ensure_started()
where = server.connection()
with psycopg.connect(host=where.host, port=where.port, user=where.user, dbname=where.dbname) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS visits ()")
    print(connection.execute("SELECT count(*) FROM visits").fetchone()[0], flush=True)
    connection.execute("INSERT INTO visits DEFAULT VALUES")
server.release()
"""


@needs_root
def test_an_ordinary_user_and_root_share_the_folder_of_the_user(folder: Path) -> None:
    user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    assert as_user(ONCE, folder, "root") == "0\n"
    assert as_user(ONCE, folder, "nobody") == "1\n"
    assert as_user(ONCE, folder, "root") == "2\n"
    assert (folder / "postgres").stat().st_uid == user.pw_uid


@needs_root
def test_an_ordinary_user_alone(folder: Path) -> None:
    user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    assert as_user(ONCE, folder, "nobody") == "0\n"
    assert as_user(ONCE, folder, "nobody") == "1\n"


@needs_root
def test_an_ordinary_user_in_the_folder_of_root(server: EmbeddedPostgres) -> None:
    refused = """
try:
    EmbeddedPostgres(Path(".")).ensure_started()
except postgres.ClusterOfAnotherUser as exc:
    print(exc)
"""
    assert "Run imgindex as that user, or give the folder" in as_user(refused, server.data_dir, "daemon")


@needs_root
def test_a_cluster_that_was_restored_as_root_is_handed_over(server: EmbeddedPostgres) -> None:
    for path in [server.cluster, *server.cluster.rglob("*")]:
        os.chown(path, 0, 0)
    server.ensure_started()
    assert value(server, "SELECT 1") == 1


CONNECT = """
try:
    psycopg.connect(host="/proc/self/cwd", user="imgindex", dbname="imgindex")
except psycopg.OperationalError as exc:
    print(exc)
"""


@needs_root
@needs_linux
def test_no_other_user_can_connect(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    assert "Permission denied" in as_user(CONNECT, server.cluster, "daemon")
    # Not even if the doors stood open, and not the user whom Postgres runs as.
    (server.cluster / ".s.PGSQL.5432").chmod(0o777)
    server.cluster.chmod(0o755)
    for name in ("daemon", server._owner().pw_name):
        assert "Peer authentication failed" in as_user(CONNECT, server.cluster, name)
    assert as_user(CONNECT, server.cluster, "root") == ""


@needs_root
def test_root_runs_it_as_somebody_else_from_programs_they_cannot_change(server: EmbeddedPostgres) -> None:
    server.ensure_started()
    process = psutil.Process(postmaster(server))
    assert process.uids().effective != 0
    assert process.gids().effective != 0
    for path in [(programs := Path(process.exe())), *programs.parents]:
        assert path.stat().st_uid == 0
        assert not path.stat().st_mode & 0o022 or path.stat().st_mode & 0o1000


@needs_root
def test_the_user_to_run_as_can_be_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDED_POSTGRES_USER", "daemon")
    assert EmbeddedPostgres(folder)._owner().pw_name == "daemon"
    monkeypatch.setenv("EMBEDDED_POSTGRES_USER", "root")
    with pytest.raises(NoUnprivilegedUser, match="none of these is another user: root"):
        postgres.unprivileged_user()


@needs_root
@needs_linux
def test_root_of_a_container_may_not_look_into_processes_of_others(
    server: EmbeddedPostgres, start: Callable[..., subprocess.Popen]
) -> None:
    server.ensure_started()
    bounded = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(24, 19) == 0  # PR_CAPBSET_DROP, CAP_SYS_PTRACE
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
    looks = """
import sys, psutil
from pathlib import Path
from imgindex.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.ensure_started()
pid = server._postmaster().pid
try:
    print(psutil.Process(pid).cwd())
except psutil.AccessDenied:
    print(pid)
"""
    process = start(python(bounded, looks, server.data_dir))
    assert process.stdout.readline() == f"{postmaster(server)}\n"


# --- Django

DJANGO = """
import os, signal, sys, time
from pathlib import Path
from django.conf import settings
from imgindex.postgres import embedded
where = embedded(Path(sys.argv[1])).connection()
settings.configure(DATABASES={"default": {
    "ENGINE": "imgindex.backend", "DATA_DIR": sys.argv[1],
    "HOST": where.host, "PORT": where.port, "USER": where.user, "NAME": where.dbname,
}})
import django
django.setup()
from django.db import OperationalError, connection
"""


def test_django_connects_heals_and_makes_test_databases(
    server: EmbeddedPostgres, start: Callable[..., subprocess.Popen]
) -> None:
    code = """
def ask(query):
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]

print(ask("SELECT current_database()"), flush=True)
os.kill(embedded(Path(sys.argv[1]))._postmaster().pid, signal.SIGKILL)
connection.close()
print(ask("SELECT 2"))
os.kill(ask("SELECT pg_backend_pid()"), signal.SIGKILL)
connection.close()
deadline = time.monotonic() + 1
while embedded(Path(sys.argv[1]))._accepts_connections() and time.monotonic() < deadline:
    pass
print(ask("SELECT 3"))
connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
print(ask("SELECT current_database()"))
connection.creation.destroy_test_db("imgindex", verbosity=0)
"""
    process = start(python(DJANGO + code, server.data_dir))
    output, _ = process.communicate(timeout=60)
    assert output.split() == ["imgindex", "2", "3", "test_imgindex"]
    assert process.returncode == 0
    assert not (server.cluster / "postmaster.pid").exists()


def test_django_sees_an_operational_error(folder: Path, start: Callable[..., subprocess.Popen]) -> None:
    (folder / "data").touch()
    code = """
try:
    connection.ensure_connection()
except OperationalError as exc:
    print(exc)
"""
    output, _ = start(python(DJANGO + code, folder / "data")).communicate(timeout=60)
    assert "Set DATA_DIR" in output
