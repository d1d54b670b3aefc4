"""
Why a frame was refused.

    Rejected.error : FrameError(reason, message)
        Reason.NOISE          no frame at all: bytes between frames, a port scanner, another protocol   silence
        Reason.CRC            the checksum does not fit the bytes                                       silence
        Reason.LENGTH         the checksum fits, the length does not                                    silence
        Reason.MALFORMED      the checksum fits, the header cannot be read                              silence
        Reason.ANSWER         ACK, NAK, DUH or RSP: an answer to an answer would make a loop            silence
        Reason.UNKNOWN_TOKEN  a token that is in no list                                                DUH
        Reason.NO_KEY         an encrypted frame, and no key for its account                            silence
        Reason.DAMAGED        a receiver's line whose columns or characters are wrong                   NAK (15), three times

Hostile input never raises: it becomes one of these values.
"""

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """The machine's word for a refusal; the list is in the module's docstring."""

    NOISE = "noise"
    CRC = "crc"
    LENGTH = "length"
    MALFORMED = "malformed"
    ANSWER = "answer"
    UNKNOWN_TOKEN = "unknown_token"
    NO_KEY = "no_key"
    DAMAGED = "damaged"


class FrameError(msgspec.Struct, frozen=True):
    """One refusal, for the log, the journal and the integrator."""

    reason: Reason
    message: str
    """What is wrong with which field, and what to do next."""
