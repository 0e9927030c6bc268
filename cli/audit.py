"""`mailgate audit`: does everything add up, is the log what was written, and proof of it for others.

The commands alone, for a quick start; what they do is in modules of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import backtest, context, erase, exempt

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Proof: everything adds up, nothing was rewritten.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line; the last one sums up.")]
PublicKey = Annotated[
    Path | None,
    typer.Option("--public-key", metavar="FILE", help="The key (PEM) that must have signed the seal."),
]


@app.command()
def conserve(
    connect: Annotated[
        bool, typer.Option("--connect", help="Also compare with what each mailbox lists right now.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check that every message is accounted for.

    Over the whole store: each has one fate for each recipient, or is open and will be looked at. What a mailbox lists and
    does not give is open.

    Exit code 1 if anything does not add up, or a mailbox can't be reached.
    """
    from cli import conservation

    settings = context.settings()
    with context.opened(settings) as engine:
        return conservation.conserved(engine, settings.mailboxes if connect else (), as_json=as_json)


@app.command()
def verify(
    seals: Annotated[
        list[Path] | None,
        typer.Option("--seal", metavar="FILE", help="A seal that was kept elsewhere; may be given again."),
    ] = None,
    public_key: PublicKey = None,
    contents: Annotated[bool, typer.Option("--contents", help="Also every message's octets.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check every event's hash, every position, every seal.

    Also beside a running gateway.

    Exit code 1 if anything is not what was written. What is wrong with a seal that is given is said first, then which
    triggers are not there, then each bad event, the first of them first.
    """
    from cli import proof

    with context.opened(context.settings()) as engine:
        return proof.verified(engine, seals or [], public_key, contents=contents, as_json=as_json)


@app.command()
def seal(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it to a file too, to be kept elsewhere.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sign it with this private key; see keygen.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the file holds, on one line.")] = False,
) -> int:
    """Seal the log as it is now.

    A seal is one value that stands for every event, and tells later if one was changed or cut off.
    """
    from cli import proof

    with context.opened(context.settings()) as engine:
        return proof.sealed(engine, out, key, as_json=as_json)


@app.command()
def keygen(file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]) -> None:
    """Make an Ed25519 key to sign seals with.

    FILE is to be kept secret, FILE.pub to be given to who checks them.
    """
    from cli import render
    from store import signing

    public, key = signing.make(file)
    render.line(f"{file}: the private key; keep it from everybody else, and a copy in a safe place")
    render.line(f"{public}: the public key, {signing.fingerprint(key)}")


@app.command()
def export(
    message: Annotated[str, typer.Argument(metavar="ID", help="The message's id, or any unique beginning.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Else ID.zip, in this folder.")] = None,
    seal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The seal to prove it by; else the last that is signed and covers it all, or the last.",
        ),
    ] = None,
) -> int:
    """Write all on record of a message to a zip file, with proof.

    For somebody without the store.
    """
    from cli import bundles

    with context.opened(context.settings()) as engine:
        return bundles.exported(engine, message, out, seal)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export wrote, or a seal.", exists=True)],
    seals: Annotated[
        list[Path] | None,
        typer.Option(
            "--seal", metavar="FILE", help="A seal that was kept: it must be under it, or go on from it."
        ),
    ] = None,
    public_key: PublicKey = None,
    page: Annotated[
        bool,
        typer.Option("--page", help="Print the message's life too, made from the facts that were checked."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> int:
    """Check a bundle, or a seal, on any machine.

    No store and no configuration are needed.

    Exit code 1 if it is not true; one line says what each thing is that is wrong.
    """
    from cli import bundles

    return bundles.checked(file, seals or [], public_key, as_page=page, as_json=as_json)


app.command("retention")(exempt.retention)
app.command()(erase.erase)
app.command()(erase.scrub)
app.command("backtest")(backtest.backtest)
