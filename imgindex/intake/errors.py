"""What can go wrong between a user's request and the bytes of an image. Every message is for that user."""


class IntakeError(Exception):
    """The image did not arrive. The message tells no internal address and no part of a reply."""


class FetchRefused(IntakeError):
    """The URL is not one that this service opens: by its form, scheme, port, address or redirects."""


class FetchFailed(IntakeError):
    """The server could not be reached, or did not answer with a whole and plain file."""


class FetchTimeout(IntakeError):
    """The file was not here by the deadline, which counts all from the name lookup to the last byte."""


class TooManyBytes(IntakeError):
    """The file is larger than this service accepts."""


class InvalidBase64(IntakeError):
    """The text is not base64."""


class EmptyImage(IntakeError):
    """The file has no bytes."""
