"""CSI's Node service. Never loads Cinder; os-brick runs in short-lived children."""
