"""The command line: parse it, and hand it to the module of its command."""

import logging
import sys
from collections.abc import Sequence

from nst.cli.command import CommandError, silence_tensorflow
from nst.cli.parser import build_parser
from nst.errors import UserError


def main(argv: Sequence[str] | None = None, prog: str = "nst") -> int:
    """Carry out a command line.

    Args:
        argv: the arguments; by default the program's own.
        prog: the name of the program, as help and errors say it.

    Returns:
        The exit code: 0; 2 for a bad input; 1 where a run failed; 130 on Ctrl-C.
    """
    try:
        arguments = build_parser(prog).parse_args(argv)
        with silence_tensorflow():
            # Imported here and not above: TensorFlow takes seconds to start, which --help does not need,
            # and Ctrl-C is answered meanwhile.
            match arguments.command:
                case "stylize":
                    from nst.cli.stylize import run
                case "study":
                    from nst.cli.study import run
                case "bench":
                    from nst.cli.bench import run
        logging.basicConfig(format="%(message)s")
        run(arguments)
        return 0
    except KeyboardInterrupt:
        message, exit_code = "Stopped early: nothing was saved.", 130
    except CommandError as error:
        message, exit_code = str(error), error.exit_code
    except UserError as error:
        message, exit_code = str(error), 2
    print(" ".join(message.split()), file=sys.stderr)
    return exit_code
