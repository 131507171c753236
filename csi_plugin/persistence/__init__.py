"""Where metadata lives: record types, the plugin interface and the built-in plugins."""
