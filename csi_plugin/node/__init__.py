"""CSI's Node service. Never loads Cinder; os-brick runs in a process that ends after use."""
