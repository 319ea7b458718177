#!/usr/bin/env python
"""Django's command line: `manage.py serve`, `manage.py index_images FOLDER`, `manage.py help`."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imgindex.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as exc:
        sys.exit(f"imgindex: {exc}")


if __name__ == "__main__":
    main()
