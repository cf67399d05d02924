"""The one-command local system: private stores, web, workers, Flower and a mail sink, all on 127.0.0.1.

Used by `make run`, `make demo` and the tests; the service itself never imports it.
"""
