"""
Every protocol that a panel or receiver may speak to us. Pure: bytes and a time in, values out.

`AnyProtocol` is the one registration: config, session and command line find a protocol there, by its tag.
"""

from protocols.dc09 import Dc09

AnyProtocol = Dc09
