"""Serve the page: python app.py"""

import argparse

from nst.runs.options import add_runner_options
from nst.serving.limits import add_limit_options
from nst.web.server import serve


def main() -> None:
    """Read the flags, and serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the style-transfer page.")
    parser.add_argument("--share", action="store_true", default=None, help="also create a public link")
    parser.add_argument(
        "--auth", metavar="NAME:PASSWORD", help="require this name and password (or: NST_AUTH)"
    )
    parser.add_argument(
        "--metrics", action="store_true", help="serve /metrics for Prometheus (or: NST_METRICS=1)"
    )
    add_limit_options(parser)
    add_runner_options(parser)
    serve(parser.parse_args())


if __name__ == "__main__":
    main()
