"""Volume drivers of our own; everything else comes from Cinder."""
