"""What `arcgate status` says of a gateway that runs, half runs, and does not run."""

import json

from protocols import dc09
from tests.conftest import Gateway, sia


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
    assert (told["redis"]["embedded"], told["redis"]["reachable"]) == (True, True)
    assert told["queue"] == {"intrusion": 1}

    page = gateway.arcgate("status").stdout
    assert f"runs as process {gateway.process.pid}" in page
    assert "1 entries, 0 wait for dispatch" in page
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
