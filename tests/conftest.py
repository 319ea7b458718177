"""What all tests share."""

import contextlib
import shutil
import signal
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connections

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photos beside the repository; tests that need it are skipped where it is not."""
    folder = SHARED / "photos"
    if not folder.is_dir():
        pytest.skip(f"no real photos: {folder} is not there")
    return folder


@pytest.fixture
def default_collection(transactional_db: None) -> None:
    """A database as after `migrate`: the collection `default` is there, and the tests' writes really commit."""
    from imgindex.services import access, catalogue
    from imgindex.types import Caller, CollectionExists

    with contextlib.suppress(CollectionExists):
        catalogue.collection_create(caller=Caller(access.DEFAULT_TENANT), name="default")


def pytest_configure() -> None:
    """Have SIGTERM end the run in order, so that the embedded Postgres does not outlive it."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))


def pytest_sessionfinish() -> None:
    """Leave the embedded Postgres of the suite, so that it stops, and clear its folder away."""
    connections.close_all()
    if not settings.DATABASE_URL:
        from imgindex.postgres import embedded

        embedded(settings.DATA_DIR).release()
    if settings.OWNS_DATA_DIR:
        shutil.rmtree(settings.DATA_DIR, ignore_errors=True)
