"""
The verbs that run the gateway, and the one that only loads what they would.

    arcgate run | receive | dispatch | check
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from arcgate.output import AsJson, print_json
from receiver import config
from receiver.load import ConfigError, Mistake

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Else $ARCGATE_CONFIG, ./arcgate.toml, /etc/arcgate/arcgate.toml."),
]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(run)
    app.command()(receive)
    app.command()(dispatch)
    app.command()(check)


def run(config_file: ConfigFile = None) -> None:
    """
    Run the whole gateway in one process: receive and dispatch.

    Example: `arcgate run --config /etc/arcgate/arcgate.toml`
    """
    _serve(config_file, receiving=True, dispatching=True)


def receive(config_file: ConfigFile = None) -> None:
    """
    Run the receiver alone: panels to journal to ACK. It needs no Redis.

    Example: `arcgate receive --config /etc/arcgate/arcgate.toml`
    """
    _serve(config_file, receiving=True, dispatching=False)


def dispatch(config_file: ConfigFile = None) -> None:
    """
    Run the dispatcher alone: journal to sites to the operators' queue.

    Example: `arcgate dispatch --config /etc/arcgate/arcgate.toml`
    """
    _serve(config_file, receiving=False, dispatching=True)


def check(config_file: ConfigFile = None, *, json: AsJson = False) -> None:
    """
    Load the configuration, the accounts and the sites, and print every mistake; exits 2 where there is any.

    Example: `arcgate check --config arcgate.toml`
    """
    from dispatch import sites
    from receiver import accounts, tls

    mistakes: list[Mistake] = []
    listeners = 0
    with refusing():
        path = config.find(config_file)
        try:
            loaded = config.load(path)
            listeners = len(loaded.listeners)
            mistakes += [Mistake(str(path), where, why) for where, why in tls.mistakes(loaded.listeners)]
        except ConfigError as error:
            mistakes += error.mistakes
        account_folder, site_folder = config.folders(path)
        known_accounts, found = accounts.load(account_folder)
        mistakes += found
        known_sites, found = sites.load(site_folder)
        mistakes += found
        if mistakes and not json:
            raise ConfigError(mistakes)
    for mistake in mistakes:
        print_json(mistake)
    if mistakes:
        raise typer.Exit(2)
    if json:
        print_json({"config": path, "listeners": listeners, "accounts": len(known_accounts), "sites": len(known_sites)})
    else:
        print(f"{path}: good: {listeners} listeners, {len(known_accounts)} accounts, {len(known_sites)} sites")


@contextmanager
def refusing(*more: type[Exception]) -> Iterator[None]:
    """Turn what a person has to mend, a ConfigError or one of `more`, into its message on stderr and exit code 2."""
    refusals: tuple[type[Exception], ...] = (ConfigError, *more)
    try:
        yield
    except refusals as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


def _serve(config_file: Path | None, *, receiving: bool, dispatching: bool) -> None:
    from arcgate import gateway

    with refusing():
        gateway.serve(config_file, receiving=receiving, dispatching=dispatching)
