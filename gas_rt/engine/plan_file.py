"""A plan's file: a manifest with this user's signature, then the plan.

    gas-rt plan 1\\n
    HMAC-SHA256 of the next line, in hexadecimal\\n
    {"bytes": …, "build_ms": …, "key": {field: value, …}, "sha256": …}\\n
    the plan

Nothing of the manifest is parsed before its signature was checked, and nothing of the plan is
handed out before its length and hash were. The secret lies outside the store, so that a store that
came from elsewhere, a download or another user's backup, is foreign whatever it contains.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from gas_rt.engine.private_folder import PrivateFolder
from gas_rt.errors import PlanError

__all__ = ["Manifest", "read_manifest", "read_payload", "secret_of", "write_plan"]

MAGIC = b"gas-rt plan 1\n"
MANIFEST_BYTES_MAX = 1 << 20
SECRET_BYTES = 32
SECRET_NAME = "plan-store.key"
OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Manifest:
    """What a plan's file says about its plan, and where in the file that begins."""

    key: Mapping[str, str]
    bytes: int
    sha256: str
    build_ms: int
    offset: int


def secret_of(folder: PrivateFolder) -> bytes:
    """This user's secret on this machine; made when it is first asked for.

    Raises `PlanError` where the file is not this user's alone, or cannot be had.
    """
    for _ in range(2):
        try:
            with folder.reading(SECRET_NAME) as (stream, size):
                if os.fstat(stream.fileno()).st_mode & OTHERS:
                    raise PlanError(
                        f"{folder.path / SECRET_NAME}: others can read it; remove it, and every "
                        "plan is built anew",
                        field="mode",
                    )
                if size == SECRET_BYTES:
                    return stream.read()
                raise PlanError(
                    f"{folder.path / SECRET_NAME}: has {size} bytes, expected {SECRET_BYTES}; "
                    "remove it, and every plan is built anew",
                    field="signature",
                )
        except FileNotFoundError:
            pass
        try:
            folder.write(SECRET_NAME, secrets.token_bytes(SECRET_BYTES), replace=False)
        except OSError as error:
            raise PlanError(
                f"{folder.path / SECRET_NAME}: cannot be written ({error.strerror}), and plans "
                "are signed with it; set XDG_STATE_HOME to a folder that can",
                field="unavailable",
            ) from error
    raise PlanError(f"{folder.path / SECRET_NAME}: vanishes when written", field="unavailable")


def write_plan(
    folder: PrivateFolder,
    name: str,
    secret: bytes,
    *,
    key: Mapping[str, str],
    data: bytes,
    build_ms: int,
) -> None:
    """Seal a plan and put it into the folder in one step. Raises `OSError`."""
    manifest = {
        "key": dict(key),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "build_ms": build_ms,
    }
    line = json.dumps(manifest, sort_keys=True).encode()
    folder.write(name, MAGIC, _sign(secret, line), b"\n", line, b"\n", data)


def read_manifest(stream: IO[bytes], size: int, secret: bytes, *, where: str) -> Manifest:
    """The manifest of an open plan file of `size` bytes, once its signature was checked."""
    if (magic := stream.read(len(MAGIC))) != MAGIC:
        raise PlanError(
            f"{where}: begins with {magic[:16]!r}, which no plan file of this gas-rt does; refused",
            field="format",
        )
    signature, line = stream.readline(129).rstrip(b"\n"), stream.readline(MANIFEST_BYTES_MAX)
    if not line.endswith(b"\n"):
        raise PlanError(f"{where}: ends within its manifest; refused", field="length")
    if not hmac.compare_digest(signature, _sign(secret, line[:-1])):
        raise PlanError(
            f"{where}: its manifest was not written by this user on this machine (the signature "
            "differs); refused, a plan from elsewhere is a stranger's code",
            field="signature",
        )
    said: dict[str, Any] = json.loads(line)  # ours from here on
    manifest = Manifest(
        said["key"], said["bytes"], said["sha256"], said["build_ms"], offset=stream.tell()
    )
    if size != manifest.offset + manifest.bytes:
        raise PlanError(
            f"{where}: the plan has {size - manifest.offset} bytes, its manifest says "
            f"{manifest.bytes}; refused",
            field="length",
        )
    return manifest


def read_payload(stream: IO[bytes], manifest: Manifest, *, where: str) -> bytes:
    """The plan itself, compared with its manifest."""
    data = stream.read(manifest.bytes)
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.sha256:
        raise PlanError(
            f"{where}: the plan was changed (SHA-256 {found[:12]}…, its manifest says "
            f"{manifest.sha256[:12]}…); refused",
            field="contents",
        )
    return data


def _sign(secret: bytes, line: bytes) -> bytes:
    return hmac.new(secret, MAGIC + line, hashlib.sha256).hexdigest().encode()
