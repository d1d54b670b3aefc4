"""What `arcgate status` says of a gateway that runs, half runs, and does not run."""

import asyncio
import json
import re
import time

from protocols import dc09
from receiver.delivered import NAME, Delivered
from tests.conftest import CONFIG, Gateway, sia

WAIT_S_MAX = 10.0


async def test_what_runs_is_told_with_what_it_has_done_and_what_does_not_is_said(gateway: Gateway) -> None:
    await gateway.send(dc09.Frame(id_token="NULL", sequence="0000", account="1"), sia("1234", "Nri1/BA5"))

    (told,) = gateway.told("status")
    assert gateway.process
    assert told["receive"]["pid"] == told["dispatch"]["pid"] == gateway.process.pid
    assert told["receive"]["since"].endswith("Z")
    (listener,) = told["receive"]["listeners"]
    assert (listener["name"], listener["addresses"]) == ("ip", [await gateway.address()])
    assert listener["counts"] == {"connections": 1, "link_tests": 1, "messages": 1, "answered": 2}
    assert told["journal"]["id"] == told["receive"]["journal"]["id"]
    assert (told["journal"]["head"], told["journal"]["lag"]) == (1, 0)
    assert told["journal"]["digest"] == told["receive"]["journal"]["digest"]
    assert told["receive"]["disk"]["free_bytes"] > 0
    assert (told["redis"]["embedded"], told["redis"]["reachable"]) == (True, True)
    assert told["queue"] == {"intrusion": 1}

    page = gateway.arcgate("status").stdout
    assert f"runs as process {gateway.process.pid}" in page
    assert re.search(r"  disk +[\d,]+ bytes free", page)
    assert f"1 entries, 0 wait for dispatch, head {told['journal']['digest'][:16]}" in page
    assert "1 intrusion" in page

    gateway.stop()
    done = gateway.arcgate("status")
    assert done.returncode == 1
    assert done.stdout.count("not running") == 2
    assert "1 entries" in done.stdout
    assert "gives no answer" in done.stdout

    gateway.start("receive")
    done = gateway.arcgate("status", "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["receive"]
    assert (told["dispatch"], told["redis"]["reachable"], told["queue"], told["journal"]["head"]) == (None, False, None, 1)


async def test_an_account_is_told_as_the_receiver_knows_it(gateway: Gateway) -> None:
    host, _, port = (await gateway.address()).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        dc09.build(sia("1234", "Nri1/BA5")) + dc09.build(dc09.Frame(id_token="SIA-XYZ", sequence="0002", account="1234"))
    )
    assert b'"DUH"0002' in await reader.readuntil(b"#1234[]\r") + await reader.readuntil(b"#1234[]\r")
    writer.close()
    (told,) = gateway.told("status", "--account", "1234")
    (heard,) = told["heard"]
    assert (heard["listener"], heard["account"], heard["refused"]) == ("ip", "1234", {"unknown_token": 1})
    assert told["since"].endswith("Z")
    page = gateway.arcgate("status", "--account", "1234").stdout
    assert "1234 is not listed for ip" in page
    assert "last heard at" in page
    assert "refused" in page
    assert "1 unknown_token; the last at" in page

    done = gateway.arcgate("status", "-a", "4321")
    assert done.returncode == 1
    assert "no frame that names this account" in done.stdout

    gateway.stop()
    done = gateway.arcgate("status", "--account", "1234")
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not run" in done.stderr
    gateway.start("receive")


async def test_reports_that_reach_nobody_are_told_with_since_when_and_that_no_more_are_taken(gateway: Gateway) -> None:
    await gateway.send(sia("1234", "Nri1/BA5"), sia("1234", "Nri1/BA6", 2))
    gateway.stop()
    (gateway.state_dir / NAME).unlink(missing_ok=True)
    gateway.config.write_text(f"undelivered_s = 0.1\nrefuse_when_undelivered = true\n{CONFIG}")
    gateway.start("receive")
    give_up_at = time.monotonic() + WAIT_S_MAX
    while not (told := json.loads(gateway.arcgate("status", "--json").stdout))["receive"]["undelivered"]["refusing"]:
        assert time.monotonic() < give_up_at
    waiting = told["receive"]["undelivered"]
    assert (waiting["lag"], waiting["raised"], told["receive"]["journal"]["writable"]) == (2, True, False)
    assert told["journal"]["lag"] is None
    page = gateway.arcgate("status").stdout
    assert f"2 reports, the oldest since {waiting['since'][:10]}" in page
    assert "arcgate journal watch --urgent" in page
    assert "REFUSING" in page

    Delivered(told["journal"]["id"], 1).write(gateway.state_dir)
    assert "2 entries, 1 wait for dispatch" in gateway.arcgate("status").stdout


async def test_what_dispatch_cannot_write_is_told(gateway: Gateway) -> None:
    (gateway.state_dir / f"{NAME}.new").mkdir()
    await gateway.send(sia("1234", "Nri1/BA5"))
    give_up_at = time.monotonic() + WAIT_S_MAX
    while "CANNOT BE WRITTEN: delivered.json: " not in (page := gateway.arcgate("status").stdout):
        assert time.monotonic() < give_up_at, page
    (gateway.state_dir / f"{NAME}.new").rmdir()
    while "CANNOT BE WRITTEN" in (page := gateway.arcgate("status").stdout):
        assert time.monotonic() < give_up_at, page
