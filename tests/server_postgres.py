"""A throw-away Postgres server for one command: `python -m tests.server_postgres COMMAND...`.

The embedded Postgres is a unix socket and the user's own name. This is the other kind, which DATABASE_URL may
point to: TCP and a password. The machine's newest Postgres serves if it has one, else the wheel's.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgindex.postgres import programs, unprivileged_user

OLDEST = 15


@contextmanager
def postgres_server() -> Iterator[str]:
    """The DATABASE_URL of a server that lives as long as the block."""
    user = unprivileged_user() if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    installed = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if int(path.parent.name) >= OLDEST]
    binaries = max(installed, key=lambda path: int(path.parent.name), default=None) or programs(user)
    folder = Path(tempfile.mkdtemp(prefix="imgindex-server-"))
    password = secrets.token_urlsafe(24)
    port = _free_port()

    def run(program: str, *arguments: str) -> None:
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        # A file, not a pipe: the server would hold a pipe open for as long as it runs.
        with (folder / "output").open("w+") as output:
            command = [binaries / program, "-D", folder / "cluster", *arguments]
            done = subprocess.run(
                command,
                cwd=folder,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,
                **identity,
            )
            output.seek(0)
            if done.returncode != 0:
                sys.exit(f"{program} failed: {output.read()}")

    try:
        (folder / "password").write_text(password)
        shutil.chown(folder, user.pw_uid, user.pw_gid)
        shutil.chown(folder / "password", user.pw_uid, user.pw_gid)
        run("initdb", "-U", "tester", "-A", "scram-sha-256", "--pwfile", "password", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off"
        run("pg_ctl", "start", "-w", "-t", "60", "-l", "log", "-o", options)
        try:
            yield f"postgres://tester:{password}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    # A Ctrl-C reaches the command by itself, and a SIGTERM is passed on. The server is stopped after either.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with postgres_server() as url:
        command = subprocess.Popen(sys.argv[1:], env={**os.environ, "DATABASE_URL": url})
        try:
            status = command.wait()
        finally:
            if command.poll() is None:
                command.terminate()
                command.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
