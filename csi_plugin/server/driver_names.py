"""Short names of drivers, as ember-csi's users write them."""

from csi_plugin.storage.cinder.driver_catalogue import supported_drivers

LOOP_DRIVER = "csi_plugin.storage.drivers.loop.LoopDriver"


def full_driver_name(name: str) -> str:
    """The class path of a driver given by class path, class name, or class name without "Driver" in any case.

    Unknown names are returned as they are; loading them tells what is wrong.
    """
    if "." in name:
        return name
    wanted = short_name(name)
    if wanted == "loop":
        return LOOP_DRIVER
    for class_name, driver in supported_drivers(2).items():
        if short_name(class_name) == wanted:
            return str(driver["class_fqn"])
    return name


def short_name(name: str) -> str:
    """A class name in lower case without "Driver": the shortest form that ``full_driver_name`` takes."""
    return name.lower().removesuffix("driver")
