"""Object storage: objects read, written and locked there, and files of it kept on this machine.

obstore is imported by `objects` alone, when a URL is first used.
"""
