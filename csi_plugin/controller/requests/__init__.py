"""Requests read and checked: pure rules, without records, storage or a server."""
