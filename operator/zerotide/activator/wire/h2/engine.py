"""The protocol's state, kept by the `h2` library, with settings of our own and without its early ends."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from zerotide.activator.wire.limits import Limits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = 16 * 1024
"""Largest frame that we send or take, so that streams take turns."""
TABLE = 4096
"""Bytes of the table of headers that we keep for what we send, whatever the peer offers to keep."""
DEFAULT_WINDOW = 65535
EVERY_STREAM = 2**31 - 1
_UNLIMITED = 2**16


class Engine(H2Connection):
    """One connection's state; bytes in, events out."""

    # How its streams ended is remembered for late frames; 65,536 of them would be megabytes per connection.
    MAX_CLOSED_STREAMS = 512

    def __init__(self, limits: Limits, *, client: bool) -> None:
        super().__init__(
            H2Configuration(client_side=client, header_encoding=None, validate_outbound_headers=False),
        )
        # Never less than what a peer assumes before it has read our settings.
        window = max(limits.unread_bytes, DEFAULT_WINDOW)
        head = limits.response_head_bytes if client else limits.head_bytes
        self.decoder.max_header_list_size = head
        self.local_settings = Settings(
            client=client,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: window,
                SettingCodes.MAX_FRAME_SIZE: FRAME,
                SettingCodes.MAX_HEADER_LIST_SIZE: head,
                SettingCodes.MAX_CONCURRENT_STREAMS: _UNLIMITED,
            },
        )
        self.max_inbound_frame_size = FRAME
        self.initiate_connection()
        if not client:
            # In force once the peer has acknowledged it: what it sent before is refused stream by stream.
            self.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams})
        self.increment_flow_control_window(window * limits.streams)

    def bound_table(self) -> None:
        """Keep the table of what we send small, where the peer has just offered a larger one."""
        if self.encoder.header_table_size > TABLE:
            self.encoder.header_table_size = TABLE


def goaway(last_stream: int, error: ErrorCodes = ErrorCodes.NO_ERROR, reason: str = "") -> bytes:
    """Return a GOAWAY frame; the engine's own would end the streams that are open."""
    frame = GoAwayFrame(0)
    frame.last_stream_id = last_stream
    frame.error_code = int(error)
    frame.additional_data = reason.encode()[:256]
    return frame.serialize()


def after_preface(data: bytes) -> bytes | None:
    """Return what follows the preface in bytes that begin within it and go beyond it; None where they do not."""
    for size in range(len(PREFACE), 0, -1):
        if data.startswith(PREFACE[-size:]):
            return data[size:]
    return None
