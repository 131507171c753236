"""Commands."""

import os

# Before gRPC is imported anywhere: its fork handlers kill commands that drivers start now and then.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
