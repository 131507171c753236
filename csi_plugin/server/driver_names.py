"""Short names of drivers, as ember-csi's users write them."""

LOOP_DRIVER = "csi_plugin.storage.drivers.loop.LoopDriver"


def full_driver_name(name: str) -> str:
    """The class path of a driver given by class path, class name, or class name without "Driver" in any case.

    Unknown names are returned as they are; loading them tells what is wrong.
    """
    if "." in name:
        return name
    from csi_plugin.storage.drivers_catalogue import supported_drivers

    wanted = _short(name)
    if wanted == "loop":
        return LOOP_DRIVER
    for class_name, driver in supported_drivers(2).items():
        if _short(class_name) == wanted:
            return str(driver["class_fqn"])
    return name


def _short(name: str) -> str:
    return name.lower().removesuffix("driver")
