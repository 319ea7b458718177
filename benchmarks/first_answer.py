"""From a clone to the first right answer: what somebody meets who has just found the project.

    python -m benchmarks.first_answer [REPOSITORY] [--cache]

Clones the repository (what is committed; this one if none is named), runs `make run` in the clone with an empty home
folder, waits for /ready, indexes one picture and searches an edited copy of it. `--cache` keeps the package caches
of the real home, which tells the download's share. Prints the seconds of each step; the exit status is 1 if the
answer is wrong.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.service import ROOT, Service
from benchmarks.table import table
from tests.pictures import encoded, textured

INSTALL_S = 900.0
"""The longest that `make run` may take to be ready, downloads included."""

_CACHES = {"UV_CACHE_DIR": ".cache/uv", "PIP_CACHE_DIR": ".cache/pip"}


@contextmanager
def _step(name: str, steps: list[tuple[str, float]]) -> Iterator[None]:
    began = time.monotonic()
    yield
    steps.append((name, time.monotonic() - began))


def _variables(home: Path, *, cache: bool) -> dict[str, str]:
    """What a fresh account has; an activated virtual environment of ours is not among it."""
    caches = {name: os.environ.get(name, str(Path.home() / folder)) for name, folder in _CACHES.items()}
    ours = str(Path(sys.prefix) / "bin")
    search = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if folder != ours)
    return {"HOME": str(home), "PATH": search, **(caches if cache else dict.fromkeys(caches, str(home / "cache")))}


def main() -> int:
    """Run it and print the table; 1 if the answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", nargs="?", default=str(ROOT))
    parser.add_argument("--cache", action="store_true", help="keep the package caches of the real home")
    options = parser.parse_args()
    picture = textured(1)
    steps: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="imgindex-first-") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        clone = folder / "clone"
        git, make = shutil.which("git"), shutil.which("make")
        if git is None or make is None:
            parser.error("git and make are needed")
        with _step("git clone", steps):
            subprocess.run([git, "clone", "-q", options.repository, clone], check=True)
        service = Service(
            clone / "data",
            settings=_variables(folder / "home", cache=options.cache),
            command=(make, "run"),
            folder=clone,
        )
        try:
            with _step("make run, until ready", steps):
                service.start(within_s=INSTALL_S)
            session = service.session()
            with _step("index one picture", steps):
                added = session.post(
                    service.url("/v3/collections/default/images"),
                    files={"file": encoded(picture, "JPEG", quality=90)},
                    data={"id": "first"},
                    timeout=60,
                )
                added.raise_for_status()
            with _step("search an edited copy", steps):
                found = session.post(
                    service.url("/v3/collections/default/search"),
                    files={"file": encoded(picture[::2, ::2], "WEBP", quality=60)},
                    timeout=60,
                )
                found.raise_for_status()
            hits = found.json()["results"]
            steps.append(("clone to first right answer", sum(seconds for _, seconds in steps)))
            with _step("stop", steps):
                service.stop()
        finally:
            service.close()
    print(table(["step", "seconds"], steps))
    right = bool(hits) and hits[0]["id"] == "first"
    print(f"\nthe first hit is {hits[0] if hits else 'nothing'}: {'right' if right else 'wrong'}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
