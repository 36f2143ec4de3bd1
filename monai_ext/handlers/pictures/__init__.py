"""Pictures of validation cases."""
