"""The storage library: Cinder's volume drivers in this process, and the objects that a program works with."""
