"""Which computation makes which artefact: stages, their runs, and the checks on what they left."""
