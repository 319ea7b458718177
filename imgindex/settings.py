"""Every knob of the service, read once from the environment. docs/settings.md explains each."""

import os
import secrets
from ipaddress import ip_network
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from imgindex.intake import parse_allow
from imgindex.postgres import embedded

_env = environ.Env()


def _text(name: str, default: str) -> str:
    return os.environ.get(name, "").strip() or default


def _flag(name: str, default: bool) -> bool:
    text = _text(name, "1" if default else "0").lower()
    if text not in {"1", "0", "true", "false", "yes", "no", "on", "off"}:
        raise ImproperlyConfigured(f"{name} must be 1 or 0, not {text!r}.")
    return text in {"1", "true", "yes", "on"}


def _number(name: str, default: int, *, least: int, most: int) -> int:
    text = _text(name, str(default))
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise ImproperlyConfigured(f"{name} must be a whole number from {least} to {most}, not {text!r}.")
    return int(text)


def _list(name: str, default: str) -> list[str]:
    return [part.strip() for part in _text(name, default).split(",") if part.strip()]


BASE_DIR = Path(__file__).resolve().parent.parent

# Where the service keeps everything that must survive: embedded Postgres, thumbnails, keys.
DATA_DIR = Path(_text("DATA_DIR", str(BASE_DIR / "data"))).expanduser().absolute()

# Address and port of the web server.
HOST = _text("HOST", "127.0.0.1")
PORT = _number("PORT", 8000, least=1, most=65535)

# Web processes, and threads in each; a thread is busy while it fetches a URL.
WEB_WORKERS = _number("WEB_WORKERS", 2, least=1, most=256)
WEB_THREADS = _number("WEB_THREADS", 8, least=1, most=256)
if not os.environ.get("DATABASE_URL") and WEB_WORKERS * WEB_THREADS > 180:
    raise ImproperlyConfigured("WEB_WORKERS times WEB_THREADS must not exceed 180: the embedded Postgres takes 200.")

# The Postgres to use (15 or newer), as postgres://user:password@host:port/name; empty: an embedded one.
DATABASE_URL = _text("DATABASE_URL", "")

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

# Whether calls without a key are answered (as the tenant "default"); on for the embedded set-up on loopback.
OPEN_ACCESS = _flag("OPEN_ACCESS", default=not DATABASE_URL and HOST in LOOPBACK)

# Host names that the service answers to.
ALLOWED_HOSTS = _list("ALLOWED_HOSTS", f"localhost,127.0.0.1,[::1],{f'[{HOST}]' if ':' in HOST else HOST}")

# Origins of the admin when it is served through a proxy, such as https://images.example.com.
CSRF_TRUSTED_ORIGINS = _list("CSRF_TRUSTED_ORIGINS", "")

# Networks of the proxies whose X-Forwarded-For and X-Real-IP are believed, as 10.0.0.0/8,127.0.0.1.
try:
    TRUSTED_PROXIES = [ip_network(network) for network in _list("TRUSTED_PROXIES", "")]
except ValueError as exc:
    raise ImproperlyConfigured(f"TRUSTED_PROXIES must be networks such as 10.0.0.0/8,127.0.0.1: {exc}.") from exc

# Private hosts that may be fetched from, as host:port,...; everything else must be a public address.
try:
    FETCH_ALLOW = parse_allow(_text("FETCH_ALLOW", ""))
except ValueError as exc:
    raise ImproperlyConfigured(str(exc)) from exc

# Ports that may be fetched from on public addresses.
try:
    FETCH_PORTS = frozenset(int(port) for port in _list("FETCH_PORTS", "80,443"))
except ValueError as exc:
    raise ImproperlyConfigured("FETCH_PORTS must be port numbers such as 80,443.") from exc
if not all(1 <= port <= 65535 for port in FETCH_PORTS):
    raise ImproperlyConfigured("FETCH_PORTS must be port numbers from 1 to 65535, such as 80,443.")

# Seconds for a whole fetch: name, connection, redirects, body, attempts.
FETCH_TIMEOUT = _number("FETCH_TIMEOUT", 8, least=1, most=300)

# The largest image in bytes, fetched, sent as base64 or uploaded.
MAX_IMAGE_BYTES = _number("MAX_IMAGE_BYTES", 32 * 2**20, least=1024, most=2**30)

# The largest image in pixels; dimensions are checked before a pixel is decoded.
MAX_IMAGE_PIXELS = _number("MAX_IMAGE_PIXELS", 64_000_000, least=1, most=2**30)

# Decoding runs in this many processes of each web worker, each with these limits on seconds and address space.
DECODE_PROCESSES = _number("DECODE_PROCESSES", 1, least=1, most=64)
DECODE_TIMEOUT = _number("DECODE_TIMEOUT", 10, least=1, most=300)
DECODE_MEMORY = _number("DECODE_MEMORY", 4 * 2**30, least=2**29, most=2**40)
if DECODE_MEMORY < 2**29 + 4 * MAX_IMAGE_BYTES:
    # Less, and a child dies of receiving an image instead of answering that it is too large.
    raise ImproperlyConfigured("DECODE_MEMORY must be at least 512 MiB and four times MAX_IMAGE_BYTES.")

# The long side of stored thumbnails in pixels, and whether the original bytes are kept as well.
THUMBNAIL_SIDE = _number("THUMBNAIL_SIDE", 512, least=32, most=4096)
KEEP_ORIGINALS = _flag("KEEP_ORIGINALS", default=False)

# From this average similarity in percent on, /v1/compare calls two pictures likely the same.
LIKELY_SAME_PERCENT = _number("LIKELY_SAME_PERCENT", 90, least=0, most=100)

# The most records of one call to /v2.
MAX_RECORDS = _number("MAX_RECORDS", 10, least=1, most=1000)

# An object detection model to use instead of the one that comes with the service: the path of an ONNX file.
DETECTOR_MODEL = os.path.expanduser(_text("DETECTOR_MODEL", ""))
if DETECTOR_MODEL and not Path(DETECTOR_MODEL).is_file():
    raise ImproperlyConfigured(f"DETECTOR_MODEL must be a file that can be read, not {DETECTOR_MODEL!r}.")

# How many rows of the change log are kept; a process that falls further behind reloads its index.
CHANGE_LOG_ROWS = _number("CHANGE_LOG_ROWS", 1_000_000, least=1, most=10**12)

# The level of the log on standard error.
LOG_LEVEL = _text("LOG_LEVEL", "INFO").upper()
if LOG_LEVEL not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
    raise ImproperlyConfigured(f"LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {LOG_LEVEL!r}.")

# Signs sessions; made once and kept in the data folder unless given.
SECRET_KEY = _text("SECRET_KEY", "")


def _kept_secret(path: Path) -> str:
    """The secret in `path`, made on first use; of two processes that start at once one wins, both read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = path.with_name(f"{path.name}.{os.getpid()}")
    if not path.exists():
        with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            os.link(mine, path)
        except FileExistsError:
            pass  # another process got there first: its secret counts
        finally:
            mine.unlink()
    return path.read_text()


if not SECRET_KEY:
    try:
        SECRET_KEY = _kept_secret(DATA_DIR / "secret_key")
    except OSError as exc:
        raise ImproperlyConfigured(f"DATA_DIR must be a folder that this user may write to: {exc}.") from exc

# What follows is Django's own configuration and takes nothing from the environment.

DEBUG = False
ROOT_URLCONF = "imgindex.urls"
WSGI_APPLICATION = "imgindex.wsgi.application"
APPEND_SLASH = False
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "imgindex.apps.ImgindexConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
]

MIDDLEWARE = [
    # Before everything that may answer: errors need its headers as well.
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "imgindex.api.quota.middleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

_DATABASE_OPTIONS = {
    "connect_timeout": "10",
    # A network that swallows packets must not hold a thread, and the index's lock, until TCP gives up.
    "tcp_user_timeout": "30000",
}
_SESSION_OPTIONS = (
    # A writer that hangs must not hold the change log's lock for ever, nor must others wait for ever for it.
    "-c lock_timeout=15s -c idle_in_transaction_session_timeout=60s"
    # What is read under that lock must be what the lock's last holder has written.
    " -c default_transaction_isolation=read\\ committed"
)
if DATABASE_URL:
    try:
        _database = _env.db_url_config(DATABASE_URL)
    except Exception as exc:
        raise ImproperlyConfigured("DATABASE_URL must read postgres://user:password@host:port/name.") from exc
    if _database.get("ENGINE") != "django.db.backends.postgresql":
        raise ImproperlyConfigured("DATABASE_URL must name a Postgres: postgres://user:password@host:port/name.")
    _given = _database.get("OPTIONS", {})
    _database["OPTIONS"] = {
        **_DATABASE_OPTIONS,
        **_given,
        "options": f"{_given.get('options', '')} {_SESSION_OPTIONS}".strip(),
    }
else:
    _server = embedded(DATA_DIR).connection()
    _database = {
        "ENGINE": "imgindex.backend",
        "DATA_DIR": str(DATA_DIR),
        "HOST": _server.host,
        "PORT": _server.port,
        "USER": _server.user,
        "NAME": _server.dbname,
        "OPTIONS": {"options": _SESSION_OPTIONS},
    }
DATABASES = {"default": {**_database, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}}

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
MEDIA_ROOT = DATA_DIR / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

# Base64 is 4/3 of the bytes; the rest is room for the other fields.
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_IMAGE_BYTES * 4 // 3 + 2**20

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["imgindex.api.auth.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["imgindex.api.rendering.JSON"],
    "DEFAULT_PARSER_CLASSES": ["imgindex.api.rendering.JSONBody", "imgindex.api.rendering.FormBody"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "imgindex.api.rendering.AlwaysJSON",
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "imgindex.api.errors.problem",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "imgindex",
    "DESCRIPTION": "Persistent near-duplicate image search.",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "PREPROCESSING_HOOKS": ["imgindex.api.documentation.canonical_paths"],
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
}

# Web pages of any origin may call the API, without this site's cookies; the admin answers its own pages only.
CORS_ALLOW_ALL_ORIGINS = True
CORS_ALLOW_CREDENTIALS = False
CORS_URLS_REGEX = r"^/(?!admin(?:/|$))"
CORS_ALLOW_HEADERS = ["accept", "authorization", "content-type", "x-api-key", "x-oanor-key", "x-requested-with"]
CORS_EXPOSE_HEADERS = [
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "X-Detector",
    "X-Image-MSE",
]

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "ours": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: getattr(record, "status_code", 500) not in {502, 504},
        }
    },
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Every 4xx answer would be a warning otherwise, and other hosts' failures errors of ours.
        "django.request": {"level": "ERROR", "filters": ["ours"]},
        "django.security.DisallowedHost": {"level": "CRITICAL"},  # anyone can cause it, at two tracebacks each
        "faiss.loader": {"level": "WARNING"},  # it tells which variants of its library are not there
    },
}
