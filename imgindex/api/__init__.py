"""Ways in over HTTP: each validates, calls one service and serialises the answer."""
