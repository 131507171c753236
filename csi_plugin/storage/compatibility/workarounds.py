"""``cinderlib.workarounds``, which programs import for what it did to Cinder: there is nothing to do here."""
