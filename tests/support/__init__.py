"""What tests of several folders share: servers to test against, requests, and ways to wait and to compare."""
