"""The HTTP border: requests in, representations out. Nothing but app.py imports this package."""
