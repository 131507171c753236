"""The process around the CSI services: settings, gRPC server, logs, leadership."""
