"""What the documents without a version share: no key needed, JSON in, errors in words of their own."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from rest_framework.response import Response
from rest_framework.views import APIView

from imgindex.api import errors
from imgindex.api.auth import KeyOrAnonymous


class Document(APIView, ABC):
    """A view whose errors have the form of its document; a missing key and our own faults keep their status."""

    schema = None
    authentication_classes: Any = (KeyOrAnonymous,)
    KEPT: ClassVar[frozenset[int]] = frozenset({401, 402, 405, 429, 500, 503})

    @abstractmethod
    def error(self, error: Exception, found: errors.Problem) -> Response:
        """The document's answer to an error."""

    def get_exception_handler(self) -> Any:
        """DRF's hook."""
        return self._answer

    def _answer(self, error: Exception, context: Any) -> Response:
        found = errors.problem_or_fault(error)
        answer = self.error(error, found)
        if found.status in self.KEPT:
            answer.status_code = found.status
        return errors.challenging(answer)
