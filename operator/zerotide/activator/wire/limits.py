"""What one connection, and all of them together, may take: bytes and seconds."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the wire; times in seconds, sizes in bytes."""

    head_bytes: int = 32 * KIB
    head_time: float = 10.0
    """From the first byte of a request to the end of its headers."""
    idle_time: float = 60.0
    """Without any request on an open connection."""
    body_time: float = 10.0
    """Within which a body must bring `body_progress` bytes, or end."""
    body_progress: int = KIB
    write_time: float = 60.0
    """For which a client may refuse to read on."""
    linger_time: float = 2.0
    """For which the rest of a refused request is read, so that its client sees the answer and no reset."""
    connections: int = 20_000
    connections_per_address: int = 16_000
    """Of them from one address, so that no single one can take them all; 0 for any number."""
    body_bytes: int = 256 * MIB
    """Of one request, whatever its endpoint allows."""
    request_age: float = 26 * 3600.0
    """From the end of a request's head to the end of its answer, whatever it does meanwhile: a little more than the
    longest hold and the longest answer that an endpoint can ask for."""
    buffered_bytes: int = 512 * MIB
    """Bodies of all requests that are not answered yet."""
    pipelined: int = 16
    unread_bytes: int = 64 * KIB
    """Of a body that nobody has asked for yet."""
    write_buffer: int = 64 * KIB
    """Bytes of an answer that wait for a slow client before its replica is made to wait."""
    streams: int = 100
    """Requests at a time on one connection of HTTP/2."""
    resets: int = 200
    """Streams that a client of HTTP/2 may give up in one go; a tenth of that is earned again in a second."""
    idle_frames: int = 1000
    """Frames without any part of a request in one go; a tenth is earned again in a second, two by each frame sent."""
    response_head_bytes: int = 64 * KIB
    connect_time: float = 1.0
    sweep: float = 0.5
    """How often deadlines are looked at."""
