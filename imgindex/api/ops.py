"""Is it alive, is it ready: for process managers and load balancers."""

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from imgindex.services import health


class Live(APIView):
    """The process answers; nothing else is asked."""

    authentication_classes = ()
    schema = None

    def get(self, request: Request) -> Response:
        return Response({"status": "live"})


class Ready(APIView):
    """200 only while searches answer from a complete index; 503 with the reason otherwise."""

    authentication_classes = ()
    schema = None

    def get(self, request: Request) -> Response:
        return Response({"status": "ready", "indexed_through": health.ready()})
