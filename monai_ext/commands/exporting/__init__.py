"""Networks of bundles for programs without this package: files of other formats, and a page for the browser."""
