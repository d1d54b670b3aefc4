"""
`arcgate alarms`: a console in the terminal. It calls the verbs that every console calls.

    list | watch | show                                 look
    claim -> renew ... -> close | release               handle: the claim's fence goes with each later verb
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from arcgate import alarm_view
from arcgate.ask import WHAT_NOW, ask
from arcgate.output import AsJson, clock, console, fail, print_json, utc
from arcgate.run import ConfigFile
from dispatch.alarm import LEASE_S, Alarm

if TYPE_CHECKING:
    from dispatch.alarm_queue import AlarmQueue

AlarmId = Annotated[str, typer.Argument(metavar="ID", help="The alarm's id, as `list` and `claim` give it.")]
Fence = Annotated[int, typer.Option("--fence", help="The fence that `claim` gave.")]
Lease = Annotated[int, typer.Option("--lease", min=1, max=600, help="Seconds that the alarm stays yours without a `renew`.")]

CLAIM_SHOWS: Final = 10
"""So many of the last events are shown with a claim."""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    alarms = typer.Typer(help="A console in the terminal: what waits for a person, and handling it.", no_args_is_help=True)
    alarms.command("list")(list_open)
    for verb in (watch, show, claim, renew, release, close):
        alarms.command()(verb)
    app.add_typer(alarms, name="alarms")


def list_open(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 100,
    config_file: ConfigFile = None,
    *,
    json: AsJson = False,
) -> None:
    """
    List the open alarms, waiting and claimed: most urgent first, then oldest.

    Example: `arcgate alarms list --limit 20`
    """
    alarms = ask(config_file, lambda queue: queue.open_alarms(limit), json=json)
    if json:
        for alarm in alarms:
            print_json(alarm_view.listed(alarm))
    elif alarms:
        console().print(alarm_view.list_table(alarms))
    else:
        print("no alarm is open")


def watch(config_file: ConfigFile = None, *, json: AsJson = False) -> None:
    """
    Print what is open, then each alarm that is opened, raised, joined, claimed, released, returned or closed; until Ctrl-C.

    Example: `arcgate alarms watch --json`
    """
    import asyncio

    from arcgate.alarm_watch import follow

    with suppress(KeyboardInterrupt):
        asyncio.run(follow(config_file, json=json))


def show(
    alarm_id: AlarmId,
    events: Annotated[int, typer.Option("--events", min=0, help="The last so many events; 0: all.")] = 50,
    config_file: ConfigFile = None,
    *,
    json: AsJson = False,
) -> None:
    """
    Show one alarm and its events; closed ones are there for a day.

    Example: `arcgate alarms show 1f2e3d4c-000000000042-1 --events 10`
    """

    async def read(queue: "AlarmQueue") -> tuple[Alarm | None, list[dict[str, Any]]]:
        return await queue.alarm(alarm_id), await queue.events(alarm_id, -events, -1)

    alarm, joined = ask(config_file, read, json=json)
    if alarm is None:
        message = f"NOALARM {alarm_id} is not here, or was closed more than a day ago. {WHAT_NOW['NOALARM']}"
        fail(message, reason="NOALARM", json=json)
    if json:
        print_json({**alarm_view.fields(alarm), "event_list": joined})
    else:
        _print(alarm, joined)


def claim(
    operator: Annotated[str, typer.Option("--operator", help="Who takes it; 1 to 64 bytes.")],
    lease: Lease = LEASE_S,
    config_file: ConfigFile = None,
    *,
    json: AsJson = False,
) -> None:
    """
    Take the most urgent, then oldest, waiting alarm. Where nothing waits: exit code 1.

    Example: `arcgate alarms claim --operator anna --lease 60`
    """

    async def take(queue: "AlarmQueue") -> tuple[Alarm | None, list[dict[str, Any]]]:
        alarm = await queue.claim(operator, lease)
        return alarm, await queue.events(alarm.id, -CLAIM_SHOWS, -1) if alarm and not json else []

    alarm, joined = ask(config_file, take, json=json)
    if alarm is None:
        fail("nothing waits")
    if json:
        print_json(alarm_view.fields(alarm))
        return
    _print(alarm, joined)
    print(f"\n{alarm_view.next_commands(alarm, config_file)}")


def renew(
    alarm_id: AlarmId, fence: Fence, lease: Lease = LEASE_S, config_file: ConfigFile = None, *, json: AsJson = False
) -> None:
    """
    Keep an alarm that you claimed.

    Example: `arcgate alarms renew 1f2e3d4c-000000000042-1 --fence 1795357315699553`
    """
    until = utc(ask(config_file, lambda queue: queue.renew(alarm_id, fence, lease), json=json))
    if json:
        print_json({"id": alarm_id, "lease_until": until})
    else:
        print(f"{alarm_id} is yours until {clock(until)} UTC")


def release(alarm_id: AlarmId, fence: Fence, config_file: ConfigFile = None, *, json: AsJson = False) -> None:
    """
    Put an alarm that you claimed back into the queue, at its old place.

    Example: `arcgate alarms release 1f2e3d4c-000000000042-1 --fence 1795357315699553`
    """
    ask(config_file, lambda queue: queue.release(alarm_id, fence), json=json)
    if json:
        print_json({"id": alarm_id, "state": "waiting"})
    else:
        print(f"{alarm_id} waits again")


def close(  # noqa: PLR0913 - an act for the register has its fields
    alarm_id: AlarmId,
    *,
    fence: Fence,
    seen: Annotated[int, typer.Option("--seen", min=0, help="How many of its events you have seen.")],
    outcome: Annotated[str, typer.Option("--outcome", help="What it was; 1 to 64 bytes.")],
    note: Annotated[str, typer.Option("--note", help="At most 4096 bytes.")] = "",
    config_file: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """
    Close an alarm that you claimed. Refused where more events have joined than you have seen.

    Example: `arcgate alarms close 1f2e3d4c-000000000042-1 --fence 1795357315699553 --seen 1 --outcome "false alarm"`
    """
    ask(config_file, lambda queue: queue.close(alarm_id, fence, seen, outcome, note), json=json)
    if json:
        print_json({"id": alarm_id, "state": "closed", "outcome": outcome})
    else:
        print(f"{alarm_id} is closed: {outcome}")


def _print(alarm: Alarm, joined: list[dict[str, Any]]) -> None:
    page = console()
    page.print(alarm_view.page(alarm))
    print(f"\nthe last {len(joined)} of its {alarm.events} events:" if len(joined) < alarm.events else "\nits events:")
    page.print(alarm_view.event_table(joined))
