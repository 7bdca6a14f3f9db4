"""TE definitions: what is computed. No loop order, no tile size, no machine in here."""
