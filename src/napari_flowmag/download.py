"""Files from the web: resumed where they broke off, checked, and there whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from napari_flowmag.errors import FlowmagError

_BLOCK = 2**18


def download(
    url: str,
    path: str | Path,
    sha256: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Fetch a file unless it is there.

    What was fetched before the connection, or the user, broke off stays beside it under another
    name, and the next call goes on from there.

    Parameters
    ----------
    url, path
        From where, and to where.
    sha256
        Hash of the file in hexadecimal digits, or how it begins.
    progress
        Called with (bytes done, bytes in all; 0 if unknown).
    check
        Called for each block; may raise to stop.

    Raises
    ------
    FlowmagError
        If the file cannot be fetched, or is not the one that was meant.
    """
    path = Path(path)
    if path.exists():
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress, check)
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(sha256.lower()):
            part.unlink()
            raise FlowmagError(f"{url} is not the file that was meant (its hash is {found[:16]}…)")
        part.rename(path)
    except (urllib.error.URLError, http.client.HTTPException) as error:
        # The latter is what http says about answers that stop in the middle, or are none; what it
        # quotes of them may be several lines.
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise FlowmagError(f"cannot fetch {url}: {reason}; try again, it goes on there") from error
    except OSError as error:
        raise FlowmagError(f"cannot fetch {url} to {path}: {error}") from error
    return path


def _fetch(
    url: str, part: Path, progress: Callable[[int, int], None], check: Callable[[], None]
) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is missing any more
            return
        raise
    with response:
        if done and response.status != 206:  # the server begins from the start
            done = 0
        total = done + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if done else "wb") as file:
            while block := response.read(_BLOCK):
                check()
                file.write(block)
                done += len(block)
                progress(done, total)
    if total > done:
        raise urllib.error.URLError(f"the connection broke off after {done} of {total} bytes")
