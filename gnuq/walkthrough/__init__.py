"""What the chapters compute on the spot, one module a chapter: small, seeded, in seconds."""
