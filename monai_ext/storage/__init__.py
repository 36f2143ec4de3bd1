"""Files and folders: written whole or not at all, locked, fingerprinted, and read with errors that name them."""
