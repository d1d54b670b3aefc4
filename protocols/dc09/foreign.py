r"""
What speaks on a DC-09 port and is no DC-09: its name, and what to do.

Owners lose days over a panel that says "SIA" and means something else; scanners try every open port all day. Neither gets an
answer: it could only be misread. The patterns begin where the noise begins.
"""

import re
from typing import Final

_SCANNER: Final = "no panel: a scanner. Nothing to do but to close the port to strangers (the listener's `allow`)"

_ARITECH: Final = "Aritech's OH protocol (xSIA), not DC-09: set the panel's central station format to SIA DC-09"

_NAMES: Final = tuple(
    (re.compile(pattern, re.DOTALL), message)
    for pattern, message in (
        (
            rb"\x16\x03[\x00-\x04]..[\x01\x02]",
            (
                'a TLS client hello: the panel wants TLS, this listener speaks plain TCP. Use a listener with transport = "tls", '
                "or switch TLS off in the panel; from a stranger's address, a scanner"
            ),
        ),
        (
            rb"(?:GET|POST|HEAD|PUT|OPTIONS|DELETE|CONNECT|TRACE|PATCH|PROPFIND|PRI) [^\r\n]*HTTP/",
            f"HTTP: {_SCANNER}; from a panel's address, its cloud or web setting names this port",
        ),
        (rb"HTTP/1\.[01] ", "an HTTP answer: the peer takes this gateway for a web client"),
        (
            rb"[\x40-\x7F]#[0-9A-Fa-f]{1,16}",
            (
                "raw SIA DC-03 blocks, as a Honeywell Galaxy Ethernet module sends: not DC-09. Its SIA setting has no DC-09: "
                "connect it through a module or receiver that speaks DC-09"
            ),
        ),
        (
            rb"\x05\x01.{3}",
            (
                "the encrypted raw DC-03 of a Honeywell Galaxy Ethernet module: not DC-09. Switching encryption off only shows "
                "raw DC-03: connect it through a module or receiver that speaks DC-09"
            ),
        ),
        (
            rb"SR[0-9]{1,4}L[0-9]{1,4} +[0-9A-Za-z]+XX",
            f"a heartbeat of {_ARITECH}",
        ),
        (
            rb"[0-9][0-9A-F]{2}[0-9A-F]{0,3} +@ +\x14",
            "a Sur-Gard heartbeat: a receiver's automation output, not a panel. It wants a listener of its own for Sur-Gard",
        ),
        (
            rb"5[0-9A-F]{3,5} +18[0-9A-F]{3,10}[EPR136][0-9A-F]{3}|S[0-9A-F]{3,5}\[#[0-9A-F]{3,16}\|",
            "a line of a Sur-Gard receiver's automation output: not DC-09. It wants a listener of its own for Sur-Gard",
        ),
        (rb"\x12\x01\x00.\x00\x00", f"MSSQL: {_SCANNER}"),
        (rb"\x00\x00..(?:\xFF|\xFE)SMB|\x00\x00\x00.\xFFSMB", f"SMB: {_SCANNER}"),
        (rb"SSH-[12]\.", f"SSH: {_SCANNER}"),
        (rb"\x03\x00\x00.[\x05-\xFF]\xE0", f"RDP: {_SCANNER}"),
        (rb"RFB 00[0-9]\.", f"VNC: {_SCANNER}"),
        (rb"[\x04\x05][\x01-\x03][\x00-\x02\x50]", f"SOCKS: {_SCANNER}"),
        (rb"(?:OPTIONS|REGISTER|INVITE) sips?:", f"SIP: {_SCANNER}"),
        (rb"(?:OPTIONS|DESCRIBE|SETUP) rtsps?:", f"RTSP: {_SCANNER}"),
        (rb"(?:EHLO|HELO) |(?:USER|PASS) .*\n|HELP\r?\n", f"SMTP, FTP or POP: {_SCANNER}"),
        (
            rb"\x10.{1,2}\x00[\x04\x06](?:MQTT|MQIsdp)",
            f"MQTT: {_SCANNER}; from a panel's address, its MQTT setting names this port",
        ),
        (rb"\*[0-9]+\r\n\$[0-9]+\r\n|(?:PING|INFO|AUTH|EVAL)\b.*\r\n", f"Redis: {_SCANNER}"),
        (rb"stats\r\n|version\r\n", f"memcached: {_SCANNER}"),
        (rb"\x30[\x0C-\x7F]\x02\x01[\x01-\x7F]\x60|\x30\x84", f"LDAP: {_SCANNER}"),
        (rb"\xFF[\xFB-\xFE]", f"telnet: {_SCANNER}"),
        (rb"JRMI|\xAC\xED\x00\x05", f"Java RMI: {_SCANNER}"),
        (rb"PROXY (?:TCP[46]|UNKNOWN) ", "a load balancer's PROXY line: switch the PROXY protocol off for this port"),
        (rb"\r\n\r\n\x00\r\nQUIT\n", "a load balancer's PROXY header: switch the PROXY protocol off for this port"),
        (rb"<\?xml|<[A-Za-z]{2,}[ />]", "XML: not DC-09. Set the panel's central station format to SIA DC-09"),
        (rb"\{\s*\"", "JSON: not DC-09. Set the panel's central station format to SIA DC-09"),
    )
)
_ARITECH_FRAME: Final = re.compile(rb'\n?01010[0-9A-Fa-f]{3}"[^"]{1,20}"[0-9A-Fa-f]{4}R[0-9]{1,4}L[0-9]{1,4}\[')


def name(noise: bytes) -> str | None:
    """Say what begins with these bytes, and what to do; None where it is like nothing known. noise: not stripped of anything."""
    if _ARITECH_FRAME.match(noise):
        return f"{_ARITECH}, though it looks like it: the checksum is always 0101"
    return next((message for pattern, message in _NAMES if pattern.match(noise)), None)
