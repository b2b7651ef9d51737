"""The exceptions that flowmag raises on purpose."""

from __future__ import annotations


class FlowmagError(Exception):
    """Something the user can put right.

    The message is one line that says what is wrong, where, and what to do about it. Faces show it
    as it is: the command line without a traceback, napari as a notification.
    """


class Cancelled(Exception):  # noqa: N818 - not an error: the user asked for it
    """The user asked a running job to stop."""
