"""One module for each RPC, or family of RPCs, of the controller."""
