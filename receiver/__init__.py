"""From the panels to the ACK: sockets and a disk, and nothing else; never Redis."""
