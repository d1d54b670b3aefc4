"""
`make bench`: how fast, as ratios in one run, with the logs on and every report on disk.

Each row is the median of ROUNDS rounds; in a round the servers take turns with the same client and the same frames, so that
a noisy machine is noisy for all of them.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from receiver.journal import JournalReader
from tests.bench.client import KEY, burglaries, flood, link_tests, pace, sealed_burglaries
from tests.bench.decode import NAMES, decode_us

ROUNDS = 5
ACCOUNTS = 1000
KEYED = 5000
"""From here on, as many accounts again, with a key."""
CONNECTIONS = 200
FRAMES = 40_000
PANELS_AHEAD = timedelta(seconds=15)
"""An encrypted frame may be 40 s late and 20 s early: so the round has time for all of them."""
PACED_RATE = 1000
PACED_FRAMES = 5000
BIN = Path(sys.executable).parent


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(*command: str) -> Iterator[int]:
    """Run `python -m command PORT`, and give the port once it says that it is ready."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", *command, str(port)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield port
        process.kill()


@contextmanager
def gateway(home: Path, *verbs: str) -> Iterator[int]:
    """Run the gateway's halves as the units do, each in its process, with a site for each account; the log goes to a file."""
    port = free_port()
    (home / "sites").mkdir(parents=True)
    sites = (f'{{"id":"site-{n}","name":"Site {n}","accounts":["{n}"]}}\n' for n in range(1000, 1000 + ACCOUNTS))
    (home / "sites" / "bench.jsonl").write_text("".join(sites))
    config = home / "arcgate.toml"
    listener = f'[[listener]]\nname = "%s"\nprotocol = "dc09"\ntransport = "%s"\naddress = "127.0.0.1:{port}"\n'
    config.write_text(listener % ("ip", "tcp") + listener % ("udp", "udp"))
    (home / "accounts").mkdir()
    keyed = (f'{{"number":"{n}","key":"ascii:{KEY.decode()}"}}\n' for n in range(KEYED, KEYED + ACCOUNTS))
    (home / "accounts" / "bench.jsonl").write_text("".join(keyed))
    with ExitStack() as halves:
        for verb in verbs:
            output = home / f"{verb}.log"
            log = halves.enter_context(output.open("wb"))
            process = halves.enter_context(subprocess.Popen([BIN / "arcgate", verb, "--config", config], stdout=log))
            halves.callback(process.terminate)
            while b'"event":"started"' not in output.read_bytes():
                assert process.poll() is None, output.read_text()
                time.sleep(0.05)
        yield port


def fsync_ms(folder: Path) -> float:
    """Return the median time of one fdatasync of 4 kB on this disk."""
    times = []
    with (folder / "probe").open("wb") as probe:
        probe.write(bytes(4096 * 100))
        os.fsync(probe.fileno())
        for n in range(300):
            os.pwrite(probe.fileno(), os.urandom(4096), 4096 * (n % 100))
            began = time.perf_counter()
            os.fdatasync(probe.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def end_to_end(home: Path, port: int) -> tuple[float, float, float]:
    """Return events a second from panel to queue, sustained; and the median and p99 in ms at PACED_RATE."""
    head = JournalReader(home / "state").head()
    with watching(home, head, FRAMES, every_s=0.02) as moments:
        began = time.perf_counter()
        flood(port, burglaries(FRAMES, ACCOUNTS, first=head), CONNECTIONS)
        sustained = FRAMES / (moments()[-1] - began)
    with watching(home, head + FRAMES, PACED_FRAMES, every_s=0.001) as moments:
        sent = pace(port, burglaries(PACED_FRAMES, ACCOUNTS, first=head + FRAMES), CONNECTIONS, PACED_RATE).sent
        waits = sorted(there - here for here, there in zip(sent, moments(), strict=True))
    return sustained, waits[len(waits) // 2] * 1000, waits[int(len(waits) * 0.99)] * 1000


@contextmanager
def watching(home: Path, first: int, total: int, *, every_s: float) -> Iterator[Callable[[], list[float]]]:
    """Watch the queue from another process, looking every so many seconds; the function given waits for its end."""
    command = [sys.executable, "-m", "tests.bench.watch", str(home / "state"), str(first), str(total), str(every_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        printed = process.stdout
        assert printed
        printed.readline()
        yield lambda: [float(moment) for moment in printed.read().split()]


def main() -> None:
    """Run the rounds, and print the table."""
    tests, reports = link_tests(FRAMES, ACCOUNTS), burglaries(FRAMES, ACCOUNTS)
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="arcgate-bench-", dir=os.environ.get("ARCGATE_BENCH_DIR")) as folder:
        home = Path(folder)
        with (
            serving("tests.bench.echo") as echo,
            serving("tests.bench.peer") as peer,
            gateway(home / "receive", "receive") as port,
        ):
            for _ in range(ROUNDS):
                sealed = sealed_burglaries(FRAMES // 2, ACCOUNTS, KEYED, datetime.now(UTC) + PANELS_AHEAD)
                for name, to, frames, udp in (
                    ("echo, AES", echo, sealed, False),
                    ("AES", port, sealed, False),
                    ("echo, NULL", echo, tests, False),
                    ("NULL", port, tests, False),
                    ("echo, SIA-DCS", echo, reports, False),
                    ("SIA-DCS", port, reports, False),
                    ("SIA-DCS, UDP", port, reports[: FRAMES // 2], True),
                    ("pysiaalarm", peer, reports[: FRAMES // 8], False),
                ):
                    seen.setdefault(name, []).append(flood(to, frames, CONNECTIONS, udp=udp).rate)
                for name, us in decode_us().items():
                    seen.setdefault(name, []).append(us)
                seen.setdefault("fdatasync", []).append(fsync_ms(home))
                seen.setdefault("alone", []).append(flood(port, reports[:500], 1).wait_ms(0.5))
        with gateway(home / "both", "receive", "dispatch") as port:
            for name, value in zip(
                ("end to end", "e2e p50", "e2e p99"),
                zip(*(end_to_end(home / "both", port) for _ in range(3)), strict=True),
                strict=True,
            ):
                seen[name] = list(value)
    Console().print(table({name: statistics.median(values) for name, values in seen.items()}))


def table(median: dict[str, float]) -> Table:
    """Lay the medians out beside their floors."""
    rows = Table(title=f"median of {ROUNDS} rounds, {CONNECTIONS} connections, {ACCOUNTS} accounts", title_justify="left")
    for heading in ("work", "here", "compared with", "ratio", "at least", "aim"):
        rows.add_column(heading, justify="left" if heading in {"work", "compared with"} else "right")
    null, sia, echo_null, echo_sia = median["NULL"], median["SIA-DCS"], median["echo, NULL"], median["echo, SIA-DCS"]
    peer, alone, sync = median["pysiaalarm"], median["alone"], median["fdatasync"]
    rows.add_row("link tests, plain", f"{null:,.0f}/s", f"echo {echo_null:,.0f}/s", f"{null / echo_null:.2f}", "0.50", "0.65")
    rows.add_row(
        "SIA-DCS, durable before the ACK", f"{sia:,.0f}/s", f"echo {echo_sia:,.0f}/s", f"{sia / echo_sia:.2f}", "0.30", "0.45"
    )
    rows.add_row("", "", f"pysiaalarm {peer:,.0f}/s", f"{sia / peer:.1f}", "4", "6")
    aes, echo_aes, udp = median["AES"], median["echo, AES"], median["SIA-DCS, UDP"]
    rows.add_row("the same, AES-128", f"{aes:,.0f}/s", f"echo {echo_aes:,.0f}/s", f"{aes / echo_aes:.2f}", "0.20", "0.35")
    rows.add_row("the same by UDP, plain", f"{udp:,.0f}/s", f"TCP {sia:,.0f}/s", f"{udp / sia:.2f}", "", "")
    for kind in ("", ", AES-128"):
        here, *others = (median[f"decode {name}{kind}"] for name in NAMES)
        told = ", ".join(f"{name} {value:,.0f} µs" for name, value in zip(NAMES[1:], others, strict=True))
        rows.add_row(f"decoding alone{kind}", f"{here:,.1f} µs", told, f"{min(others) / here:.1f}", "", "")
    rows.add_row(
        "one panel alone, ACK p50", f"{alone:.2f} ms", f"fdatasync {sync:.2f} ms", f"{alone - sync:+.2f} ms", "+0.50 ms", ""
    )
    rows.add_row("panel to claimable, sustained", f"{median['end to end']:,.0f}/s", "", "", "10,000/s", "20,000/s")
    rows.add_row(
        f"the same at {PACED_RATE:,}/s", f"p50 {median['e2e p50']:.1f} ms", "", f"p99 {median['e2e p99']:.1f} ms", "100 ms", ""
    )
    return rows


if __name__ == "__main__":
    main()
