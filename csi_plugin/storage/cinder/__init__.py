"""All that wraps Cinder: its runtime, options, driver calls, statistics, scheduler and adaptations of drivers."""
