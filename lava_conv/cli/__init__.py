"""The command line `lava-conv`. Everything heavy is imported inside the commands, so that --help is quick.

Exit codes: 0 done (and, for compare, equal; for fit, it fits), 1 different, not fitting or interrupted, 2 an error,
told in one sentence.
"""

import io
import os
import sys
from contextlib import suppress

import click

from lava_conv import __version__
from lava_conv.cli.chip import fit
from lava_conv.cli.completion import completion
from lava_conv.cli.convert import calibrate, convert
from lava_conv.cli.demo import demo
from lava_conv.cli.look import bench, inspect, validate
from lava_conv.cli.lower import lower
from lava_conv.cli.report import report
from lava_conv.cli.run import compare, run
from lava_conv.cli.screen import begin, complain, err, level_options
from lava_conv.cli.train import train
from lava_conv.errors import LavaConvError


def main() -> None:
    """Entry point: every error a user can cause is one sentence and exit code 2."""
    begin()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name of a file may hold bytes that no encoding has
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _outcome()
        sys.stdout.flush()  # a full device tells it now, and not after the last line of this program
    except BrokenPipeError:
        code = _forget_output(1)
    except OSError as error:
        with suppress(OSError):
            complain(f"the output cannot be written ({error.strerror}); write it elsewhere")
        code = _forget_output(2)
    sys.exit(code)


def _forget_output(code: int) -> int:
    """What could not be written would be tried again when the program ends. Gives the exit code back."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _outcome() -> int:
    """Run the command; its exit code.

    Raises:
        OSError: the output cannot be written.
    """
    try:
        code = cli.main(prog_name="lava-conv", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        err.print("interrupted")
        return 1
    except click.ClickException as error:
        error.show()
    except LavaConvError as error:
        complain(str(error))
    except MemoryError:
        complain("out of memory; use fewer samples or steps")
    except OSError as error:
        if error.filename is None:
            raise
        complain(f"{os.fsdecode(error.filename)}: {error.strerror}; check the name and its permissions")
    return 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="lava-conv")
def cli() -> None:
    """Quantised PyTorch networks as integer spiking networks that equal them exactly.

    \b
    lava-conv demo                                the whole way in half a minute
    lava-conv train --out runs/digits.pt          train with quantisation
    lava-conv convert runs/digits.pt digits.net   integers, proven bounds
    lava-conv run digits.net --data digits        simulate, accuracy at each step
    lava-conv compare digits.net --data digits    simulator against Lava, spike by spike
    lava-conv lower m.net stock.net               for unmodified lava-dl netx
    lava-conv fit digits.net --chip loihi2        does it fit the chip, what breaks, what would help
    lava-conv report digits.net --data digits     all of it as one HTML page with pictures
    lava-conv bench simulator lenet               speed on this machine, side by side with others

    Every command explains itself: lava-conv COMMAND --help. Results go to stdout (--json for scripts), bars and remarks
    to stderr; exit codes are 0 done, 1 different, not fitting or interrupted, 2 an error, told in one sentence.
    """


MEMBERS = (demo, train, convert, calibrate, run, compare, lower, fit, report, inspect, validate, bench, completion)
COMMANDS = {str(command.name): command for command in MEMBERS}
for command in MEMBERS:
    command.params.extend(level_options())
    cli.add_command(command)
cli.params.extend(level_options())
