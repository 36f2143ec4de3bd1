"""Data with several raters: QUBIQ layout, cases, predictions."""
