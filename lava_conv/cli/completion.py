"""The command that writes what a shell needs to complete commands, options and file names: completion."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that lets the shell complete commands, options and file names with the tab key.

    \b
    lava-conv completion bash >> ~/.bashrc
    lava-conv completion zsh >> ~/.zshrc
    lava-conv completion fish > ~/.config/fish/completions/lava-conv.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these three"
    click.echo(kind(context.find_root().command, {}, "lava-conv", "_LAVA_CONV_COMPLETE").source())
