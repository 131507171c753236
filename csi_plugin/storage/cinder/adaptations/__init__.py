"""What single families of Cinder's drivers leave to OpenStack, added around their calls."""
