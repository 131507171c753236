"""Records from elsewhere: from another store, or from ember-csi."""
