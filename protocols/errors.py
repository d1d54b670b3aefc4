"""
Why a frame was refused.

    Rejected.error : FrameError(reason, message)
        Reason.NOISE            no frame at all: bytes between frames                                       silence
        Reason.FOREIGN          another protocol, and which: a scanner, or a panel that is set otherwise    silence
        Reason.CRC              the checksum does not fit the bytes                                         silence
        Reason.LENGTH           the length does not fit: in journals of before; now it is a dialect         silence
        Reason.MALFORMED        the checksum fits, the header or the ciphertext cannot be read              silence
        Reason.ANSWER           ACK, NAK, DUH or RSP: an answer to an answer would make a loop              silence
        Reason.UNKNOWN_ACCOUNT  no such account, and the listener is to be silent to those                  silence
        Reason.NO_KEY           an encrypted frame, and no key for its account                              silence, or DUH
        Reason.WRONG_KEY        an encrypted frame, and no key of its account opens it                      silence, or DUH
        Reason.PLAIN            a plain frame from an account that has a key                                silence
        Reason.DIALECT          it departs from the standard, and the listener is strict                    silence
        Reason.OLD_TIME         its time is missing or too far from ours: the panel may set its clock       NAK
        Reason.UNKNOWN_TOKEN    a token that is in no list                                                  DUH
        Reason.DAMAGED          a receiver's line whose columns or characters are wrong                     NAK (15), three times

Hostile input never raises: it becomes one of these values.
"""

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """The machine's word for a refusal; the list is in the module's docstring."""

    NOISE = "noise"
    FOREIGN = "foreign"
    CRC = "crc"
    LENGTH = "length"
    MALFORMED = "malformed"
    ANSWER = "answer"
    UNKNOWN_ACCOUNT = "unknown_account"
    NO_KEY = "no_key"
    WRONG_KEY = "wrong_key"
    PLAIN = "plain"
    DIALECT = "dialect"
    OLD_TIME = "old_time"
    UNKNOWN_TOKEN = "unknown_token"
    DAMAGED = "damaged"


class FrameError(msgspec.Struct, frozen=True):
    """One refusal, for the log, the journal and the integrator."""

    reason: Reason
    message: str
    """What is wrong with which field, and what to do next."""
