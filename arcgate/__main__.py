"""`arcgate`: every verb, and nothing else. What a verb does stands in the file of its name."""

import typer

from arcgate import alarms, codes, decode, journal, panel, register, run, status, watch

app = typer.Typer(
    name="arcgate",
    help="The alarm gateway of an alarm receiving centre: from the panel's frame to the operator's queue, nothing lost.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,  # a local may be a key or a phone number
)
for verbs in (run, status, alarms, journal, register, panel, decode, codes, watch):
    verbs.register(app)


def main() -> None:
    """Run the command line; the entry point of the installed `arcgate`."""
    app()


if __name__ == "__main__":
    main()
