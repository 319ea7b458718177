"""Settings: every one documented, a wrong value said at once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READ = re.compile(r'_(?:text|flag|number|list)\(\s*"([A-Z_]+)"')


def test_every_setting_is_documented_and_nothing_else() -> None:
    read = set(READ.findall((ROOT / "imgindex" / "settings.py").read_text()))
    documented = set(re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))
    assert read
    assert read | {"EMBEDDED_POSTGRES_USER"} == documented


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "abc", "PORT must be a whole number from 1 to 65535, not 'abc'"),
        ("PORT", "70000", "PORT must be a whole number from 1 to 65535"),
        ("WEB_WORKERS", "0", "WEB_WORKERS must be a whole number"),
        ("OPEN_ACCESS", "maybe", "OPEN_ACCESS must be 1 or 0"),
        ("DATABASE_URL", "mysql://x/y", "DATABASE_URL must name a Postgres"),
        ("DATABASE_URL", "nonsense", "DATABASE_URL must"),
        ("FETCH_ALLOW", "no port", "FETCH_ALLOW: "),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "TRUSTED_PROXIES must be networks"),
        ("FETCH_PORTS", "http", "FETCH_PORTS must be port numbers"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL must be"),
        ("MAX_RECORDS", "0", "MAX_RECORDS must be a whole number"),
        ("LIKELY_SAME_PERCENT", "101", "LIKELY_SAME_PERCENT must be a whole number from 0 to 100"),
        ("DETECTOR_MODEL", "/nowhere/model.onnx", "DETECTOR_MODEL must be a file that can be read"),
    ],
)
def test_a_wrong_value_stops_the_process_and_names_the_fix(name: str, value: str, said: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "imgindex.settings", name: value}
    run = subprocess.run(
        [sys.executable, "-c", "import imgindex.settings"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert said in run.stderr
