"""Devices and processes that train one run together: all that knows of more than one of them."""
