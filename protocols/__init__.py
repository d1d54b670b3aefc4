"""
Every protocol that a panel or receiver may speak to us. Pure: bytes and a time in, values out.

`AnyProtocol` is the one registration: config, session and command line find a protocol there, by its tag.
"""

from protocols.ademco685 import Ademco685
from protocols.asterisk import Asterisk
from protocols.bosch import Bosch
from protocols.cp220 import Cp220
from protocols.dc09 import Dc09
from protocols.surgard import SurGard

AnyProtocol = Dc09 | SurGard | Ademco685 | Cp220 | Bosch | Asterisk
