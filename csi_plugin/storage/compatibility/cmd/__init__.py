"""``cinderlib.cmd``: a cinder.conf as YAML, and as a program."""
