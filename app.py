"""Serve the page: python app.py."""

from nst.web.server import main

if __name__ == "__main__":
    main()
