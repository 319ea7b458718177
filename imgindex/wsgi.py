"""What the web server runs: the application of one worker process."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imgindex.settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from imgindex.services import worker  # noqa: E402

worker.start()
