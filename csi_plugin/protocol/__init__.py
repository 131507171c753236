"""CSI on the wire: generated messages (built from proto/), status errors and what both services share."""
