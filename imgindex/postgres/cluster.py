"""One cluster of the embedded Postgres: start, stop, recover.

One cluster lives in `<data_dir>/postgres`. Every process that uses it says so with a shared lock; the first
one starts the server and the last one stops it. All locks are `flock`s, which the kernel drops with the
process that held them, so no crash leaves one behind:

- `postgres.start`: held while somebody looks, starts or stops, so that only one process at a time does;
- `postgres.users`: held shared by each process that uses the server; who gets it exclusively is the last;
- `postgres.running`: inherited by the server and its backends, so it is free exactly when none of them lives.
  A pid file cannot tell: its number may be a stranger's by now, or mean a process of another container.
"""

import atexit
import fcntl
import functools
import hashlib
import logging
import os
import pwd
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

import psutil

from imgindex.postgres.errors import (
    ClusterOfAnotherUser,
    ClusterOfAnotherVersion,
    PostgresDidNotStart,
    PostgresDidNotStop,
)
from imgindex.postgres.programs import MAJOR, WANTED_USER, account, address, folder_as_seen_by, run, unprivileged_user

logger = logging.getLogger(__name__)

PORT = 5432  # never opened: it only names the socket file
NAME = "imgindex"  # of the role and of the database

_SOCKET = f".s.PGSQL.{PORT}"
_PATIENCE_S = 60
_FAST_STOP_S = 10
_LOG_LIMIT = 10 * 1024 * 1024
_LONGEST_SOCKET_PATH = 103  # bytes that every platform accepts in an address; Linux takes 107
_SHORT_PATHS = Path("/tmp")  # noqa: S108 - each process must find it, whatever its TMPDIR; what lies there is verified

_SETTINGS = f"""\
# Written by imgindex at each start. Settings of your own: ALTER SYSTEM SET ..., then restart.
listen_addresses = ''
port = {PORT}
unix_socket_directories = '.'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 128MB
fsync = on
synchronous_commit = on
idle_in_transaction_session_timeout = 60s
lc_messages = 'C'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
# The log holds what went wrong: no routine reports, and no statements, whose values are the users' data.
log_checkpoints = off
log_min_error_statement = panic
"""


@dataclass(frozen=True)
class Connection:
    """Where to connect; `host` is the folder of the unix socket."""

    host: str
    port: int
    user: str
    dbname: str


@functools.cache
def embedded(data_dir: Path) -> "EmbeddedPostgres":
    """The one object of this process for a data folder."""
    return EmbeddedPostgres(data_dir)


class EmbeddedPostgres:
    """A Postgres server that starts with its first user and stops with its last.

    Safe for threads, for any number of processes at once, and across fork: a child is no user until it asks.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.cluster = self.data_dir / "postgres"
        self._users: int | None = None
        self._mutex = RLock()
        # A fork waits for a start in progress: a child born within one would inherit its locks.
        os.register_at_fork(
            before=self._mutex.acquire,
            after_in_parent=self._mutex.release,
            after_in_child=self._after_fork,
        )

    @property
    def in_use(self) -> bool:
        """Whether this process is among the users."""
        return self._users is not None

    def connection(self) -> Connection:
        """Where to connect; the same in every process of a user, and known before the server runs."""
        return Connection(host=str(self._short_path or self.cluster), port=PORT, user=NAME, dbname=NAME)

    def ensure_started(self) -> None:
        """Make the server run and this process one of its users; call again after a connection was refused.

        Raises PostgresDidNotStart.
        """
        with self._mutex:
            try:
                self.data_dir.mkdir(parents=True, exist_ok=True)
                self._link_short_path()
                with self._locked("start"):
                    if self._users is None:
                        # First, so that an interrupted start is still stopped at exit.
                        self._users = self._open("users")
                        fcntl.flock(self._users, fcntl.LOCK_SH)
                        atexit.register(self.release)
                    try:
                        self._bring_up()
                    except Exception:
                        os.close(self._forget())
                        raise
            except PermissionError as exc:
                raise ClusterOfAnotherUser(
                    f"{exc}: the data folder {self.data_dir} belongs to another user. Run imgindex as "
                    f"that user, or give the folder to this one (chown -R {os.geteuid()} {self.data_dir}), "
                    "or set DATA_DIR."
                ) from exc
            except OSError as exc:
                raise PostgresDidNotStart(
                    f"{exc}: the embedded Postgres needs a folder on a local disk. Set DATA_DIR to one, or "
                    "DATABASE_URL to a Postgres server."
                ) from exc

    def release(self) -> None:
        """Stop being a user; the last one stops the server. Raises PostgresDidNotStop."""
        with self._mutex:
            if self._users is None:
                return
            users = self._forget()
            if not self.data_dir.is_dir():
                os.close(users)
                return
            with self._locked("start"):
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return  # others are left
                finally:
                    os.close(users)
                # A newcomer waits for the start lock, so nobody begins to use what is being stopped.
                self._await_pid_file()
                if self._postmaster() is not None:
                    self._stop()

    def _await_pid_file(self) -> None:
        """A start that a signal cut off goes on without us: wait until its server can be told to stop."""
        deadline = time.monotonic() + _PATIENCE_S / 10
        while self._postmaster() is None and time.monotonic() < deadline:
            with self._no_server_lives() as lock:
                if lock is not None:
                    return
            time.sleep(0.02)

    def _after_fork(self) -> None:
        """Leave the parent's locks to the parent; closing our copies does not unlock them."""
        if self._users is not None:
            os.close(self._forget())
        self._mutex.release()

    def _forget(self) -> int:
        """Hand out the users lock, of which this object knows no more."""
        assert self._users is not None
        users, self._users = self._users, None
        atexit.unregister(self.release)
        return users

    # --- locks

    def _open(self, lock: str) -> int:
        path = self.data_dir / f"postgres.{lock}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        if os.geteuid() == 0:
            # The folder of an ordinary user: they must be able to come back after root was here.
            owner = self.data_dir.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor

    @contextmanager
    def _locked(self, lock: str) -> Iterator[None]:
        descriptor = self._open(lock)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _no_server_lives(self) -> Iterator[int | None]:
        """The running lock, for a new server to inherit; None while any process of an old one lives."""
        descriptor = self._open("running")
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield descriptor
        finally:
            os.close(descriptor)  # without unlocking: a server that inherited it keeps it

    # --- start and stop, under the start lock

    def _bring_up(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            postmaster = self._postmaster()
            if postmaster is None:
                with self._no_server_lives() as lock:
                    # Otherwise its last backends linger after a crash, or it has yet to write its pid file.
                    if lock is not None and self._launch(lock):
                        continue
            elif postmaster.status == "ready":
                if not (self.cluster / _SOCKET).exists():
                    self._stop()  # somebody removed the socket, and only a restart makes a new one
                elif self._accepts_connections():
                    return
            elif postmaster.status == "stopping":
                self._stop()  # a smart shutdown waits for its clients to leave, possibly for ever
            time.sleep(0.02)
        raise PostgresDidNotStart(
            self._failure(
                f"The embedded Postgres in {self.cluster} is neither up nor gone after {_PATIENCE_S} s. If "
                "another container holds the folder: a DATA_DIR for each, or a common DATABASE_URL."
            )
        )

    def _launch(self, running_lock: int) -> bool:
        """Start a server while none lives, on a cluster that is made first if need be; False: try again."""
        if not (self.cluster / "PG_VERSION").exists():
            self._create_cluster()
        version = (self.cluster / "PG_VERSION").read_text().strip()
        if version != str(MAJOR):
            raise ClusterOfAnotherVersion(
                f"{self.cluster} was written by Postgres {version}; this release of imgindex runs "
                f"Postgres {MAJOR}. Dump it with the release that wrote it (pg_dump), move the folder away, "
                "start again and restore the dump; or set DATABASE_URL to a Postgres server."
            )
        owner = self._owner()
        self._hand_over(self.cluster, owner)
        self.cluster.chmod(0o700)
        for name, content in self._configuration().items():
            self._write(name, content, owner)
        self._remove_misleading_lock_files()
        log = self.cluster / "postgres.log"
        if log.exists() and log.lstat().st_size > _LOG_LIMIT:
            log.replace(self.cluster / "postgres.log.1")
        where = address(self.cluster)
        done = run(
            "pg_ctl",
            *("start", "-w", "-t", str(_PATIENCE_S), "-D", where, "-l", f"{where}/postgres.log"),
            user=owner,
            cwd=self.cluster,
            inherit=running_lock,
        )
        if done.returncode == 0:
            return True
        if "pre-existing shared memory block" in self._log_tail(3):
            return False  # backends linger of a server that was started by hand and has no running lock
        raise PostgresDidNotStart(self._failure(f"Postgres did not start in {self.cluster}: {done.stdout}"))

    def _create_cluster(self) -> None:
        """Make the cluster aside and rename it when complete: half of one is never taken for whole."""
        if self.cluster.exists() and any(self.cluster.iterdir()):
            raise PostgresDidNotStart(
                f"{self.cluster} is in the way and no Postgres cluster: move it away, or set DATA_DIR."
            )
        for leftover in self.data_dir.glob("postgres.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        owner = self._owner()
        half = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.data_dir))
        self._hand_over(half, owner)
        where = address(half)
        encoding = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        done = run(
            "initdb",
            *("-D", where, "-U", NAME, *encoding, "--auth=peer", "--no-instructions"),
            user=owner,
            cwd=half,
        )
        if done.returncode == 0:
            create = f"CREATE DATABASE {NAME};"
            done = run("postgres", "--single", "-D", where, "postgres", user=owner, cwd=half, stdin=create)
        if done.returncode != 0:
            raise PostgresDidNotStart(
                f"The embedded Postgres could not be set up in {self.data_dir}: {done.stdout[-2000:]}\n"
                "Set DATA_DIR to a folder on a local disk, or DATABASE_URL to a Postgres server."
            )
        half.rename(self.cluster)
        _sync_folder(self.data_dir)

    def _stop(self) -> None:
        # A fast stop during the recovery from a crashed backend hangs for ever (Postgres 18.4). An immediate
        # one loses nothing: the next start replays the log.
        for mode, patience_s in (("fast", _FAST_STOP_S), ("immediate", _PATIENCE_S)):
            done = run(
                "pg_ctl",
                *("stop", "-m", mode, "-w", "-t", str(patience_s), "-D", address(self.cluster)),
                user=self._owner(),
                cwd=self.cluster,
            )
            # It may also have gone by itself in between.
            if done.returncode == 0 or self._postmaster() is None:
                return
        raise PostgresDidNotStop(self._failure(f"Postgres in {self.cluster} did not stop: {done.stdout}"))

    # --- who runs

    def _postmaster(self) -> "_Postmaster | None":
        """The server that the pid file names, if that process is really the server of this cluster."""
        lines = self._read("postmaster.pid").splitlines()
        pid = _number(lines[0]) if lines else None
        if pid is None or not self._is_our_postmaster(pid):
            return None
        # The status stands in line 8, which is written last.
        return _Postmaster(pid=pid, status=lines[7].strip() if len(lines) > 7 else "starting")

    def _is_our_postmaster(self, pid: int) -> bool:
        try:
            process = psutil.Process(pid)
            owner = self.cluster.stat().st_uid
            if process.name() != "postgres" or process.uids().effective != owner:
                return False
            if process.status() == psutil.STATUS_ZOMBIE:  # nobody reaps it where the service itself is pid 1
                return False
            try:
                folder = process.cwd()
            except psutil.AccessDenied:
                # A container's root may lack CAP_SYS_PTRACE, without which only the owner can look.
                folder = folder_as_seen_by(self._owner(), pid)
            return os.path.samefile(folder, self.cluster)
        except (psutil.NoSuchProcess, FileNotFoundError):
            return False

    def _remove_misleading_lock_files(self) -> None:
        """Postgres would take any living process for its predecessor, and refuse a file that a full disk cut.

        The running lock says that no predecessor lives. The number of a dead process is left to Postgres,
        which then also looks for shared memory that is still in use.
        """
        for name in ("postmaster.pid", f"{_SOCKET}.lock"):
            lock_file = self.cluster / name
            pid = _number(self._read(name).partition("\n")[0])
            if lock_file.exists() and (pid is None or psutil.pid_exists(pid)):
                logger.warning("removed a stale %s: process %s is not our Postgres", lock_file, pid)
                lock_file.unlink()

    def _accepts_connections(self) -> bool:
        """Not so while it recovers from the crash of a backend, when its pid file still says "ready"."""
        to = self.connection()
        question = ("pg_isready", "-q", "-h", to.host, "-p", str(to.port), "-U", to.user, "-d", to.dbname)
        asked = run(*question, user=account(os.geteuid()), cwd=self.cluster)
        return asked.returncode == 0

    def _owner(self) -> pwd.struct_passwd:
        """Whom Postgres runs as: this user, or for root the owner of the cluster, or whoever is to own it."""
        if os.geteuid() != 0:
            return account(os.geteuid())
        # In the data folder of an ordinary user, a cluster of anybody else would lock that user out.
        folders = [self.cluster] if WANTED_USER in os.environ else [self.cluster, self.data_dir]
        for folder in folders:
            # There is none yet, or it was restored from a machine with other users.
            with suppress(FileNotFoundError, KeyError):
                owner = pwd.getpwuid(folder.stat().st_uid)
                if owner.pw_uid != 0:
                    return owner
        return unprivileged_user()

    # --- files of the cluster; root must not follow links there, which its owner could have aimed elsewhere

    def _configuration(self) -> dict[str, str]:
        # The owner of the data folder could replace all of it, so keeping them out would protect nothing.
        users = {"root", account(os.geteuid()).pw_name, account(self.data_dir.stat().st_uid).pw_name}
        return {
            "postgresql.conf": _SETTINGS,
            "pg_hba.conf": "local all all peer map=imgindex\n",
            "pg_ident.conf": "".join(f'imgindex "{user}" {NAME}\n' for user in sorted(users)),
        }

    def _write(self, name: str, content: str, owner: pwd.struct_passwd) -> None:
        descriptor, fresh = tempfile.mkstemp(dir=self.cluster)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        os.replace(fresh, self.cluster / name)

    def _read(self, name: str, last: int = 64 * 1024) -> str:
        try:
            descriptor = os.open(self.cluster / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return ""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(max(0, os.fstat(descriptor).st_size - last))
            return file.read(last).decode(errors="replace")

    def _hand_over(self, folder: Path, owner: pwd.struct_passwd) -> None:
        if folder.stat().st_uid == owner.pw_uid:
            return
        try:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        except OSError as exc:
            raise ClusterOfAnotherUser(
                f"{exc}: Postgres must run as {owner.pw_name}, who cannot be given {folder}. Set DATA_DIR to "
                "a folder on a local disk, or DATABASE_URL to a Postgres server."
            ) from exc

    def _failure(self, text: str) -> str:
        return (
            f"{text.strip()}\nIf the log below is no help, set DATABASE_URL to a Postgres server.\n"
            f"--- {self.cluster}/postgres.log\n{self._log_tail(15)}"
        )

    def _log_tail(self, lines: int) -> str:
        return "\n".join(self._read("postgres.log").splitlines()[-lines:])

    # --- a short way to the socket

    @property
    def _short_path(self) -> Path | None:
        """A link to the cluster for clients, where the path of the socket is too long for an address."""
        if len(os.fsencode(self.cluster / _SOCKET)) <= _LONGEST_SOCKET_PATH:
            return None
        digest = hashlib.sha256(os.fsencode(self.cluster)).hexdigest()[:16]
        return _SHORT_PATHS / f"imgindex-{os.geteuid()}" / digest

    def _link_short_path(self) -> None:
        link = self._short_path
        if link is None or (link.is_symlink() and _is_private(link.parent)):
            return
        link.parent.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(link.parent):
            raise PostgresDidNotStart(
                f"{link.parent} is not a folder of this user alone, so what lies there cannot be trusted. "
                "Remove it, or set DATA_DIR to a shorter path."
            )
        with suppress(FileExistsError):  # another process got there first
            link.symlink_to(self.cluster)


@dataclass(frozen=True)
class _Postmaster:
    pid: int
    status: str  # starting, ready, stopping


def _is_private(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _number(text: str) -> int | None:
    """The pid in a line of a pid file; Postgres in single-user mode writes it negative."""
    try:
        number = abs(int(text))
    except ValueError:
        return None
    return number if 0 < number < 2**31 else None


def _sync_folder(folder: Path) -> None:
    """A rename outlives a power cut once the folder it happened in is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
