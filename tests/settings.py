"""Settings of the test suite: the service's own, with a data folder that lives as long as the run."""

import os
import tempfile

# Processes that a test starts inherit the folder, so that they all stand on one embedded Postgres.
OWNS_DATA_DIR = "IMGINDEX_TEST_DATA_DIR" not in os.environ
if OWNS_DATA_DIR:
    os.environ["IMGINDEX_TEST_DATA_DIR"] = tempfile.mkdtemp(prefix="imgindex-test-")
os.environ["DATA_DIR"] = os.environ["IMGINDEX_TEST_DATA_DIR"]
os.environ.setdefault("OPEN_ACCESS", "1")

from imgindex.settings import *  # noqa: E402, F403

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
MIDDLEWARE = [name for name in MIDDLEWARE if "whitenoise" not in name]  # noqa: F405
